#!/usr/bin/env bash
# Makes the root folders of the images that Kubernetes' end-to-end tests run, once, into the project's cache folder, and prints that folder; the archives
# are made of them by bench/peer/conformance. As upstream's, agnhost and nginx stand on a busybox with a few programs, which come here from the
# machine's own Debian packages (apt-get download; nothing is installed). What agnhost and the others do is Kubernetes' own code.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tools=$("$here/conformance-tools.sh")
images=$tools/images
[ -e "$images/made" ] || (
	echo "conformance-images: making the images' folders (once)" >&2
	rm -rf "$images"
	mkdir -p "$images"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	source=$(cd "$here/../bench/peer/conformance" && go list -f '{{.Dir}}' -m k8s.io/kubernetes)/test/images
	base() { # base NAME [ACCOUNT...]: a folder with busybox under all its names
		root=$images/$1
		mkdir -p "$root"/{bin,usr/bin,usr/sbin,usr/lib,etc,tmp,root,home,run,var/run,var/tmp,var/log,var/spool,proc,sys,dev}
		ln -s usr/lib "$root/lib"
		ln -s bin "$root/sbin"
		chmod 1777 "$root/tmp" "$root/var/tmp"
		cp "$work/busybox/bin/busybox" "$root/bin/busybox"
		"$root/bin/busybox" --list | while read -r name; do [ "$name" = busybox ] || ln -s busybox "$root/bin/$name"; done
		printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\nwww-data:x:33:33::/var/www:/bin/false\nnobody:x:65534:65534::/:/bin/false\n' >"$root/etc/passwd"
		printf 'root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n' >"$root/etc/group"
	}
	add() { # add ROOT PACKAGE...: packages with all that they depend on
		local root=$images/$1
		shift
		mkdir -p "$work/debs"
		apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$@" | grep '^[a-z]' | grep -v ':' |
			grep -vxE 'dpkg|debconf|perl-base|perl|libc-bin|base-files|tar|install-info|adduser|passwd|sysvinit-utils|lsb-base|libpam.*|coreutils|gcc-12-base|init-system-helpers|.*-doc' |
			sort -u >"$work/list"
		(cd "$work/debs" && apt-get download $(cat "$work/list") >/dev/null 2>"$work/complaint") || { cat "$work/complaint" >&2; exit 1; }
		while read -r name; do
			for deb in "$work/debs/$name"_*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$root"; done
		done <"$work/list"
		rm -rf "$root"/usr/share/{doc,man,locale,lintian,bug}
	}
	mkdir "$work/busybox"
	(cd "$work" && apt-get download busybox-static >/dev/null && dpkg-deb -x busybox-static_*.deb "$work/busybox")
	base busybox

	base agnhost
	add agnhost curl bind9-dnsutils netcat-openbsd iproute2 bash libc6
	ln -sf nc.openbsd "$images/agnhost/usr/bin/nc"
	ln -sf nc.openbsd "$images/agnhost/bin/nc"
	cp "$tools/agnhost" "$images/agnhost/agnhost"
	ln -s agnhost "$images/agnhost/agnhost-2"
	cp "$source"/agnhost/porter/localhost.{crt,key} "$images/agnhost/"
	mkdir "$images/agnhost/uploads"
	echo 'user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh' >>"$images/agnhost/etc/passwd"
	printf 'user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n' >>"$images/agnhost/etc/group"

	for pet in kitten nautilus; do
		mkdir "$images/$pet"
		cp "$source/$pet"/html/* "$images/$pet/"
	done
	base nginx
	add nginx nginx-light libc6
	mkdir -p "$images"/nginx/var/{lib/nginx,log/nginx,www/html} "$images/nginx/usr/share/nginx/html"
	cat >"$images/nginx/etc/nginx/nginx.conf" <<-'END'
		user www-data;
		events {}
		http {
			access_log /dev/stdout;
			error_log /dev/stderr;
			server { listen 80; listen [::]:80; root /usr/share/nginx/html; }
		}
	END
	echo '<html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1></body></html>' >"$images/nginx/usr/share/nginx/html/index.html"
	base nonewprivs
	mkdir -p "$images/nonewprivs/usr/local/bin"
	cp "$tools/nonewprivs" "$images/nonewprivs/usr/local/bin/nnp"
	chmod +s "$images/nonewprivs/usr/local/bin/nnp"
	base resource-consumer
	cp "$tools/resource-consumer" "$images/resource-consumer/consumer"
	cp "$tools/consume-cpu" "$images/resource-consumer/"
	touch "$images/made"
)
echo "$images"
