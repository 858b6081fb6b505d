// cert-manager's controllers for Issuers that are self-signed or have a CA, and for the Certificates of such Issuers, as one
// plain process. cert-manager's own main is no part of its module; this one starts the same controllers as that does, with
// the same defaults, but leads without an election, serves no metrics and has no
// issuer for ACME, Vault or Venafi.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cert-manager/cert-manager/pkg/controller"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
	"k8s.io/klog/v2"

	// Each makes itself known to the package controller.
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
)

const workers = 5

// options are cert-manager's defaults, but for the pause after a failed request: an hour there.
func options(kubeconfig string) controller.ContextOptions {
	return controller.ContextOptions{
		Kubeconfig:         kubeconfig,
		KubernetesAPIQPS:   20,
		KubernetesAPIBurst: 50,
		IssuerOptions:      controller.IssuerOptions{ClusterResourceNamespace: "kube-system"},
		CertificateOptions: controller.CertificateOptions{
			CopiedAnnotationPrefixes:                 []string{"*", "-kubectl.kubernetes.io/", "-fluxcd.io/", "-argocd.argoproj.io/"},
			CertificateRequestMinimumBackoffDuration: time.Second,
			CertificateRequestMaximumBackoffDuration: 32 * time.Hour,
		},
	}
}

func run(ctx context.Context, kubeconfig string) error {
	factory, err := controller.NewContextFactory(ctx, options(kubeconfig))
	if err != nil {
		return err
	}
	shared, err := factory.Build()
	if err != nil {
		return err
	}
	// A controller asks for its informers when it is built: all are built before the first informer starts.
	names := slices.Sorted(maps.Keys(controller.Known()))
	built := make([]controller.Interface, len(names))
	for place, name := range names {
		if built[place], err = controller.Known()[name](factory); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failed := make([]error, len(names))
	var running sync.WaitGroup
	for place, name := range names {
		running.Go(func() {
			// One that ends takes the others with it.
			defer stop()
			if err := built[place].Run(workers, ctx); err != nil {
				failed[place] = fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	fmt.Println("cert-manager runs", strings.Join(names, " "))
	running.Wait()
	return errors.Join(failed...)
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "the API server, and who we are there")
	klog.InitFlags(nil)
	flag.Parse()
	if *kubeconfig == "" || flag.NArg() != 0 {
		fmt.Fprintln(os.Stderr, "usage: cert-manager --kubeconfig FILE [-v LEVEL]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(logf.NewContext(ctx, logf.Log), *kubeconfig)
	// Who is told to end while its caches fill has not failed.
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "cert-manager:", err)
		os.Exit(1)
	}
}
