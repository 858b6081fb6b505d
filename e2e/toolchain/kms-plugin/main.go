// Command kms-plugin is a KMS v2 plugin for tests: its keys are derived from their key_ids, and the present key_id is the
// content of a file, so that a test rotates the key by writing another one there.
package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"time"

	"k8s.io/kms/pkg/service"
)

type plugin struct{ keyID string }

func aead(keyID string) (cipher.AEAD, error) {
	key := sha256.Sum256([]byte(keyID))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (p plugin) present() (string, error) {
	text, err := os.ReadFile(p.keyID)
	return strings.TrimSpace(string(text)), err
}

func (p plugin) Status(context.Context) (*service.StatusResponse, error) {
	keyID, err := p.present()
	if err != nil {
		return nil, err
	}
	return &service.StatusResponse{Version: "v2", Healthz: "ok", KeyID: keyID}, nil
}

func (p plugin) Encrypt(_ context.Context, _ string, data []byte) (*service.EncryptResponse, error) {
	keyID, err := p.present()
	if err != nil {
		return nil, err
	}
	sealer, err := aead(keyID)
	if err != nil {
		return nil, err
	}
	return &service.EncryptResponse{Ciphertext: sealer.Seal(nil, nil, data, nil), KeyID: keyID}, nil
}

func (p plugin) Decrypt(_ context.Context, _ string, request *service.DecryptRequest) ([]byte, error) {
	opener, err := aead(request.KeyID)
	if err != nil {
		return nil, err
	}
	return opener.Open(nil, nil, request.Ciphertext, nil)
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: kms-plugin SOCKET FILE-WITH-KEY-ID")
		os.Exit(2)
	}
	if err := service.NewGRPCService(os.Args[1], time.Minute, plugin{os.Args[2]}).ListenAndServe(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
