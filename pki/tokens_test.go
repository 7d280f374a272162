package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"
)

func tokens(t *testing.T, a *Authority) *Tokens {
	t.Helper()
	k, err := a.Tokens()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTokens(t *testing.T) {
	dir := t.TempDir()
	a := tokens(t, open(t, dir, time.Now()))
	type claims struct {
		Subject string `json:"sub"`
	}
	token, err := a.Sign(claims{"jane"})
	if err != nil {
		t.Fatal(err)
	}
	// Another server with the same authority.
	var got claims
	if err := tokens(t, open(t, dir, time.Now())).Verify(token, &got); err != nil || got.Subject != "jane" {
		t.Errorf("verify with the same authority: %v, %+v", err, got)
	}
	if again, err := tokens(t, open(t, dir, time.Now())).Sign(claims{"jane"}); err != nil || again != token {
		t.Errorf("another server signs otherwise: %v", err)
	}
	stranger := tokens(t, open(t, t.TempDir(), time.Now()))
	theirs, err := stranger.Sign(claims{"jane"})
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding
	p := strings.Split(token, ".")
	none := enc.EncodeToString([]byte(`{"alg":"none","kid":"` + a.id + `"}`))
	for name, bad := range map[string]string{
		"another authority's": theirs,
		"other claims":        p[0] + "." + enc.EncodeToString([]byte(`{"sub":"root"}`)) + "." + p[2],
		"no signature":        p[0] + "." + p[1] + ".",
		"algorithm none":      none + "." + p[1] + ".",
		"none with signature": none + "." + p[1] + "." + p[2],
		"short signature":     p[0] + "." + p[1] + "." + p[2][:40],
		"two parts":           p[0] + "." + p[1],
		"empty":               "",
		"no base64":           p[0] + "." + p[1] + "." + p[2][:85] + "*",
		"trailing bits":       p[0] + "." + p[1] + "." + p[2] + "=",
	} {
		if err := a.Verify(bad, &got); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}

// TestKeySetChecksTokens checks a token as a stranger would: by the published key alone.
func TestKeySetChecksTokens(t *testing.T) {
	k := tokens(t, open(t, t.TempDir(), time.Now()))
	b, err := k.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Keys []struct{ Kty, Kid, Crv, Alg, X, Y string }
	}
	if err := json.Unmarshal(b, &set); err != nil || len(set.Keys) != 1 || set.Keys[0].Kty != "EC" || set.Keys[0].Crv != "P-256" || set.Keys[0].Alg != "ES256" {
		t.Fatalf("%s: %v", b, err)
	}
	point := []byte{4} // uncompressed: SEC 1, 2.3.3
	for _, s := range []string{set.Keys[0].X, set.Keys[0].Y} {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil || len(b) != 32 {
			t.Fatal(s, err)
		}
		point = append(point, b...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	token, err := k.Sign(map[string]string{"sub": "jane"})
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndex(token, ".")
	sum := sha256.Sum256([]byte(token[:at]))
	sig, err := base64.RawURLEncoding.DecodeString(token[at+1:])
	if err != nil {
		t.Fatal(err)
	}
	if !ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("the published key does not check the token")
	}
}

func FuzzVerifyToken(f *testing.F) {
	a, err := Open(Config{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	k, err := a.Tokens()
	if err != nil {
		f.Fatal(err)
	}
	good, err := k.Sign(map[string]string{"sub": "jane"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("x.y.z")
	f.Add(good[:len(good)-4] + "AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		var claims map[string]any
		if k.Verify(token, &claims) == nil && token != good {
			t.Fatalf("%q was taken", token)
		}
	})
}
