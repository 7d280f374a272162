package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"reconcile/node/image"
	"reconcile/node/runtime"
)

// nodeRoot is where a machine's agent keeps its state below the data directory.
func nodeRoot(dataDir string) string { return filepath.Join(dataDir, "node") }

func newImage() *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use:     "image COMMAND",
		Example: "  reconcile image build -t web:v1 ./web\n  reconcile image list",
		Short:   "Build, import and list the container images of this machine",
		Long: "Images are kept in the data directory of this machine's agent, which need not run. There is no registry: a pod whose image\n" +
			"is not here waits with ErrImageNeverPull, and starts once the image is imported or built.",
	}
	cmd.PersistentFlags().StringVar(&dataDir, "data-dir", "./run", "data directory `DIR` of reconcile up or agent on this machine")
	open := func() (*image.Store, error) {
		// A mistyped folder must not become a second, empty store that no agent reads.
		if _, err := os.Stat(dataDir); err != nil {
			return nil, fmt.Errorf("%s is no data directory here: name the one of `reconcile up` with --data-dir: %w", dataDir, err)
		}
		if err := checkUsable(dataDir); err != nil {
			return nil, err
		}
		abs, err := filepath.Abs(nodeRoot(dataDir))
		if err != nil {
			return nil, err
		}
		return image.Open(image.Config{Root: filepath.Join(abs, "images"),
			InUse:   func() (map[string][]string, error) { return runtime.ImagesInUse(abs) },
			Mounted: func() (map[string]bool, error) { return runtime.LayersMounted(abs) }})
	}
	cmd.AddCommand(imageImport(open), imageBuild(open), imageList(open), imageRemove(open))
	return cmd
}

// familiar is an image's name as people write it: without the registry and the folder that are meant where none is named.
func familiar(name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, "index.docker.io/"), "library/")
}

type openStore func() (*image.Store, error)

func imageImport(open openStore) *cobra.Command {
	var tag string
	cmd := &cobra.Command{
		Use: "import FILE.tar", Short: "Store the images of an OCI or docker archive", Args: oneArg("FILE.tar"),
		Example: "  docker save web:1 -o web.tar && reconcile image import web.tar",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			list, err := s.Import(cmd.Context(), args[0], tag)
			for _, i := range list {
				fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", familiar(i.Name), i.ID)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&tag, "tag", "t", "", "name the archive's only image so, whatever the archive says")
	return cmd
}

func imageBuild(open openStore) *cobra.Command {
	var tag string
	var o image.BuildOptions
	cmd := &cobra.Command{
		Use: "build -t NAME:TAG PATH", Short: "Make an image of a static binary or a folder", Args: oneArg("PATH"),
		Long: "A static binary becomes /app of an otherwise empty image. A folder becomes the image's root; if it holds an executable /app,\n" +
			"that is the entry point. Nothing is downloaded. The same input gives the same digest.",
		Example: "  CGO_ENABLED=0 go build -o web . && reconcile image build -t web:v1 web",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			i, err := s.Build(cmd.Context(), tag, args[0], o)
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", familiar(i.Name), i.ID)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&tag, "tag", "t", "", "the image's `NAME:TAG`, as pods name it (required)")
	cmd.Flags().StringArrayVar(&o.Entrypoint, "entrypoint", nil, "the command and its arguments, one flag each")
	cmd.Flags().StringArrayVar(&o.Env, "env", nil, "NAME=VALUE, one flag each")
	cmd.Flags().StringVar(&o.WorkDir, "workdir", "", "the working directory")
	cmd.Flags().StringVar(&o.User, "user", "", "the user, as UID, UID:GID or a name of /etc/passwd")
	_ = cmd.MarkFlagRequired("tag")
	return cmd
}

func imageList(open openStore) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List this machine's images", Args: cobra.NoArgs,
		Example: "  reconcile image list --data-dir ./run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("-o %q: want text or json", output)
			}
			s, err := open()
			if err != nil {
				return err
			}
			list, err := s.List()
			if err != nil {
				return err
			}
			if output == "json" {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(list)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tID\tSIZE")
			for _, i := range list {
				fmt.Fprintf(w, "%s\t%.19s\t%.1f MB\n", familiar(i.Name), i.ID, float64(i.Size)/1e6)
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func imageRemove(open openStore) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME…", Short: "Remove images that no container uses", Args: cobra.MinimumNArgs(1),
		Example: "  reconcile image rm --data-dir ./run web:v1",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			for _, n := range args {
				if err := s.Remove(cmd.Context(), n); err != nil {
					return err
				}
				fmt.Fprintln(os.Stdout, "removed", n)
			}
			return nil
		},
	}
}
