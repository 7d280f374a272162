package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// Tokens signs and checks JSON Web Tokens (RFC 7519) with ES256 (RFC 7518, section 3.4), the algorithm that Kubernetes' service accounts use with
// a key on P-256. It knows nothing of what they claim. It is safe for use by several goroutines.
type Tokens struct {
	key *ecdsa.PrivateKey
	id  string
}

// tokenHeader is the header of a token.
type tokenHeader struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
}

// Algorithm is the one with which tokens are signed, as JOSE names it.
const Algorithm = "ES256"

// coordinate is the length in bytes of a number on P-256.
const coordinate = 32

// Tokens makes the cluster's signer of tokens. Its key follows from the authority's (HKDF with SHA-256, RFC 5869, reduced as FIPS 186-5, A.2.1
// says), so that every server signs alike, and nothing more has to be copied to a server that joins; the authority's key cannot be told
// from it.
func (a *Authority) Tokens() (*Tokens, error) {
	secret, err := a.key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("derive the key of tokens: %w", err)
	}
	// 128 bits more than the key has make the remainder's bias negligible.
	long, err := hkdf.Key(sha256.New, secret, nil, "reconcile service account tokens v1", coordinate+16)
	if err != nil {
		return nil, fmt.Errorf("derive the key of tokens: %w", err)
	}
	one := big.NewInt(1)
	d := new(big.Int).SetBytes(long)
	d.Mod(d, new(big.Int).Sub(elliptic.P256().Params().N, one)).Add(d, one)
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d.FillBytes(make([]byte, coordinate)))
	if err != nil {
		return nil, fmt.Errorf("derive the key of tokens: %w", err)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("derive the key of tokens: %w", err)
	}
	sum := sha256.Sum256(public)
	return &Tokens{key: key, id: base64.RawURLEncoding.EncodeToString(sum[:])}, nil
}

// Sign makes a token of claims, which are encoded as JSON. The same claims give the same token: the signature is RFC 6979's, which needs no chance.
func (k *Tokens) Sign(claims any) (string, error) {
	header, err := json.Marshal(tokenHeader{Algorithm, k.id})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode a token's claims: %w", err)
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString(header) + "." + enc.EncodeToString(payload)
	sum := sha256.Sum256([]byte(signed))
	der, err := k.key.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &pair); err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	sig := make([]byte, 2*coordinate)
	pair.R.FillBytes(sig[:coordinate])
	pair.S.FillBytes(sig[coordinate:])
	return signed + "." + enc.EncodeToString(sig), nil
}

// errToken is what is wrong with a token that was not signed here. It tells no more, because whoever sends one is not known.
var errToken = errors.New("the token is not one of this cluster")

// Verify reads the claims of a token that this cluster has signed. What they say, times too, is the caller's to judge.
func (k *Tokens) Verify(token string, claims any) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errToken
	}
	var raw [3][]byte
	for i, p := range parts {
		b, err := base64.RawURLEncoding.Strict().DecodeString(p)
		if err != nil {
			return errToken
		}
		raw[i] = b
	}
	var header tokenHeader
	if json.Unmarshal(raw[0], &header) != nil || header.Algorithm != Algorithm || header.KeyID != k.id || len(raw[2]) != 2*coordinate {
		return errToken
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s := new(big.Int).SetBytes(raw[2][:coordinate]), new(big.Int).SetBytes(raw[2][coordinate:])
	if !ecdsa.Verify(&k.key.PublicKey, sum[:], r, s) {
		return errToken
	}
	d := json.NewDecoder(bytes.NewReader(raw[1]))
	if err := d.Decode(claims); err != nil {
		return errToken
	}
	return nil
}

// KeySet is the public key as a JSON Web Key Set (RFC 7517), by which others check tokens.
func (k *Tokens) KeySet() ([]byte, error) {
	public, err := k.key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	enc := base64.RawURLEncoding
	// The uncompressed form of a point: 4, then x and y.
	x, y := public[1:1+coordinate], public[1+coordinate:]
	return json.Marshal(map[string]any{"keys": []map[string]string{{
		"use": "sig", "kty": "EC", "kid": k.id, "crv": "P-256", "alg": Algorithm, "x": enc.EncodeToString(x), "y": enc.EncodeToString(y),
	}}})
}
