// kube-apiserver for tests that walk through many key rotations: it looks at its EncryptionConfiguration each second
// instead of each minute, and is the same program otherwise.
package main

import (
	"os"
	"time"

	"k8s.io/apiserver/pkg/server/options/encryptionconfig/controller"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // as in kube-apiserver's own main
	_ "k8s.io/component-base/metrics/prometheus/version"  // as in kube-apiserver's own main
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	controller.EncryptionConfigFileChangePollDuration = time.Second
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
