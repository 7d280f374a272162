package manifests

// Tree is a set of files with content hashes: a commit's tree or a folder. Files come in the order of their paths.
type Tree interface {
	// Files lists the regular files below the root, in the order of paths, without reading them where it can.
	Files() ([]File, error)
	// Read returns a file's content, which is not to be changed.
	Read(path string) ([]byte, error)
}

// File is one file of a Tree. Hash is the git hash of its content, 40 hex digits.
type File struct {
	Path string
	Hash string
}
