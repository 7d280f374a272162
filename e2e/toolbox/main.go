// Command toolbox is the program in the containers of the end-to-end tests: what a shell with curl and nslookup would be.
//
//	toolbox sleep                      until SIGTERM
//	toolbox spin                       keeps a processor busy until SIGTERM
//	toolbox serve ADDR TEXT            HTTP: / answers TEXT, /env?NAME a variable, /file?PATH a file, /say?TEXT prints TEXT
//	toolbox get URL [CERTIFICATE]      prints the answer's body; an https server must be of that authority (PEM)
//	toolbox lookup NAME                prints the addresses of a name
//	toolbox say TEXT                   prints TEXT
//	toolbox exit CODE                  ends so
//	toolbox eat MEBIBYTES              holds so much memory, then sleeps
//	toolbox cat                        copies its input to its output
//	toolbox tty                        tells whether its input is a terminal, and if so the line that it reads from it
//	toolbox log N                      prints N numbered lines, then sleeps
//	toolbox file PATH                  prints a file
//
// Called as tar or test, it is what kubectl cp needs of these (tar.go).
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	call := run
	switch filepath.Base(os.Args[0]) {
	case "tar":
		call = func(args []string) error { return archive(args, os.Stdin, os.Stdout) }
	case "test":
		call = isFolder
	}
	if err := call(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "toolbox:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		args = []string{"sleep"}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch args[0] {
	case "sleep":
		<-ctx.Done()
		return nil
	case "spin":
		for ctx.Err() == nil { //nolint:revive // to be busy is what it is for
		}
		return nil
	case "serve":
		return serve(ctx, arg(1), arg(2))
	case "get":
		return get(ctx, arg(1), arg(2))
	case "lookup":
		return lookup(ctx, arg(1))
	case "say":
		fmt.Println(arg(1))
		return nil
	case "exit":
		code, err := strconv.Atoi(arg(1))
		if err != nil {
			return err
		}
		os.Exit(code)
	case "eat":
		return eat(ctx, arg(1))
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "tty":
		return tty()
	case "file":
		b, err := os.ReadFile(arg(1))
		if err == nil {
			_, err = os.Stdout.Write(b)
		}
		return err
	case "log":
		n, err := strconv.Atoi(arg(1))
		if err != nil {
			return err
		}
		for i := range n {
			fmt.Println("line", i+1)
		}
		<-ctx.Done()
		return nil
	}
	return fmt.Errorf("unknown command %q", args[0])
}

func serve(ctx context.Context, addr, text string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, text) })
	mux.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, os.Getenv(r.URL.RawQuery)) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		b, err := os.ReadFile(r.URL.RawQuery)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = w.Write(b)
	})
	mux.HandleFunc("/say", func(_ http.ResponseWriter, r *http.Request) { fmt.Println(r.URL.RawQuery) })
	srv := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return srv.Close()
	}
}

func get(ctx context.Context, url, authority string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(authority))
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(os.Stdout, res.Body)
	return err
}

func lookup(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return err
	}
	slices.Sort(addrs)
	fmt.Println(strings.Join(addrs, " "))
	return nil
}

func tty() error {
	if _, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.ENODEV) {
		fmt.Println("no terminal")
		return nil
	} else if err != nil {
		return err
	}
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	fmt.Print("a terminal says ", line)
	return nil
}

func eat(ctx context.Context, mib string) error {
	n, err := strconv.Atoi(mib)
	if err != nil {
		return err
	}
	b := make([]byte, n<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	fmt.Println("ate", len(b)>>20, "MiB")
	<-ctx.Done()
	return nil
}
