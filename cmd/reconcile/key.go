package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"reconcile/raftstore/disk"
	"reconcile/raftstore/seal"
)

// keyFlags say where the key is kept that wraps the keys of a server's store.
type keyFlags struct {
	encrypt       bool
	file, command string
}

func (k *keyFlags) bind(f *pflag.FlagSet) {
	f.StringVar(&k.file, "key-file", "", "file of the key that the store's keys are encrypted with (default: DATA-DIR/encryption.key)")
	f.StringVar(&k.command, "key-command", "", "shell command that prints that key, instead of a file")
}

// source is nil for a store that is not to be encrypted.
func (k *keyFlags) source(dataDir string) (seal.Source, error) {
	switch {
	case k.file != "" && k.command != "":
		return nil, errors.New("--key-file and --key-command exclude each other")
	case !k.encrypt && k.file == "" && k.command == "":
		// An existing store may be encrypted all the same, and says so.
		return nil, nil
	case k.command != "":
		return seal.Command(k.command), nil
	case k.file == "":
		return seal.File(filepath.Join(dataDir, encryptionKeyName)), nil
	}
	path, err := filepath.Abs(k.file)
	return seal.File(path), err
}

// newKey is `reconcile key`.
func newKey() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "key",
		Short:   "List and rotate the keys that a server's store is encrypted with",
		Example: "  reconcile key list --data-dir /var/lib/reconcile\n  reconcile key rotate --data-dir /var/lib/reconcile",
		Long: "A server's store is encrypted with data keys, which stand in DATA-DIR/store/keys.json, encrypted with an outer key: the file\n" +
			"DATA-DIR/encryption.key, or what --key-file or --key-command name. These commands work on a server that runs, and on one that does not.",
	}
	cmd.AddCommand(newKeyList(), newKeyRotate(), newKeyRewrap())
	return cmd
}

// ringFlags are those of a command on a key ring.
type ringFlags struct {
	keyFlags
	dataDir string
}

func (r *ringFlags) bind(cmd *cobra.Command) {
	r.encrypt = true
	cmd.Flags().StringVar(&r.dataDir, "data-dir", "", "the server's data directory (required)")
	r.keyFlags.bind(cmd.Flags())
	if err := cmd.MarkFlagRequired("data-dir"); err != nil {
		panic(err)
	}
}

func (r *ringFlags) open() (*seal.Ring, error) {
	dir, err := filepath.Abs(r.dataDir)
	if err != nil {
		return nil, err
	}
	source, err := r.source(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "store", "keys.json")
	if !exists(path) {
		return nil, fmt.Errorf("there is no %s: %s is no server's data directory, or its store is not encrypted", path, dir)
	}
	return seal.Open(disk.OS{}, path, source, false)
}

func newKeyList() *cobra.Command {
	var f ringFlags
	var output string
	cmd := &cobra.Command{
		Use:     "list --data-dir DIR",
		Short:   "List the data keys of a server's store",
		Long:    "Lists the data keys by ID. The active one encrypts what is written; the others are still needed to read what was written before.",
		Example: "  reconcile key list --data-dir /var/lib/reconcile",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("-o %q: want text or json", output)
			}
			ring, err := f.open()
			if err != nil {
				return err
			}
			var list []keyStatus
			for _, k := range ring.Keys() {
				list = append(list, keyStatus{ID: k.ID, Made: k.Made, By: k.By, Active: k.ID == ring.Active()})
			}
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), list)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			for _, k := range list {
				use := "reads"
				if k.Active {
					use = "active"
				}
				fmt.Fprintf(t, "key %d\t%s\tmade %s\tencrypted with %s\n", k.ID, use, k.Made.Format(time.RFC3339), k.By)
			}
			return t.Flush()
		},
	}
	f.bind(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// keyStatus is a line of `key list -o json`.
type keyStatus struct {
	ID     uint32    `json:"id"`
	Made   time.Time `json:"made"`
	By     string    `json:"encryptedWith"`
	Active bool      `json:"active"`
}

func newKeyRotate() *cobra.Command {
	var f ringFlags
	cmd := &cobra.Command{
		Use:   "rotate --data-dir DIR",
		Short: "Make a new data key, without stopping the server",
		Long: "Makes a new data key. A server that runs takes it within seconds for what it writes, and encrypts its snapshot and blobs with it\n" +
			"anew; the log follows as it is compacted. Then the old key is removed, as `key list` shows.",
		Example: "  reconcile key rotate --data-dir /var/lib/reconcile",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ring, err := f.open()
			if err != nil {
				return err
			}
			id, err := ring.Rotate(0)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "key %d is active\n", id)
			return nil
		},
	}
	f.bind(cmd)
	return cmd
}

func newKeyRewrap() *cobra.Command {
	var f ringFlags
	var to keyFlags
	cmd := &cobra.Command{
		Use:   "rewrap --data-dir DIR (--to-key-file FILE | --to-key-command CMD)",
		Short: "Encrypt the data keys with another outer key",
		Long: "Encrypts the data keys with the key of another file, which is made if it is not there, or of another command. The server needs\n" +
			"that one from its next start on; one that runs goes on.",
		Example: "  reconcile key rewrap --data-dir /var/lib/reconcile --to-key-file /mnt/usb/reconcile.key",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (to.file == "") == (to.command == "") {
				return usageError(cmd, errors.New("name one of --to-key-file and --to-key-command"))
			}
			ring, err := f.open()
			if err != nil {
				return err
			}
			source, err := to.source("")
			if err == nil {
				err = ring.Rewrap(source)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the data keys are encrypted with %s; name it at the server's next start\n", source)
			return nil
		},
	}
	f.bind(cmd)
	cmd.Flags().StringVar(&to.file, "to-key-file", "", "file of the new outer key")
	cmd.Flags().StringVar(&to.command, "to-key-command", "", "shell command that prints the new outer key")
	return cmd
}
