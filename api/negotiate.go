package api

import (
	"fmt"
	"mime"
	"net/http"
	"sort"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The media types of bodies.
const (
	mediaJSON  = "application/json"
	mediaYAML  = "application/yaml"
	mediaProto = "application/vnd.kubernetes.protobuf"
)

// shape is the form in which a client wants objects.
type shape string

// The shapes. A whole object is the empty one.
const (
	shapeWhole       shape = ""
	shapeTable       shape = "Table"
	shapePartial     shape = "PartialObjectMetadata"
	shapePartialList shape = "PartialObjectMetadataList"
)

// accepted is what was agreed with the client.
type accepted struct {
	media string
	shape shape
	// version is that of group meta.k8s.io for a shape: v1 or v1beta1.
	version string
	// pretty asks for indented JSON.
	pretty bool
	// refused is the answer instead of the object or list, if it has none of the shape that is wanted: errors that come before it are told first.
	refused error
}

// Who asks for the metadata of a list as that of an object, or the other way round, is not served anything else instead, as in Kubernetes.
var (
	partialOther = map[shape]shape{shapePartial: shapePartialList, shapePartialList: shapePartial}
	partialWhy   = map[shape]string{shapePartial: "a list", shapePartialList: "not a list"}
)

// clause is one part of an Accept header.
type clause struct {
	media  string
	params map[string]string
	q      float64
}

func parseAccept(header string) []clause {
	var out []clause
	for _, part := range strings.Split(header, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		c := clause{media: media, params: params, q: 1}
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
			c.q = q
		}
		out = append(out, c)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].q > out[j].q })
	return out
}

// negotiate chooses the first clause of the Accept header that can be served. proto tells whether the kind has protobuf; shapes
// are those that the endpoint can give besides the whole object.
func negotiate(r *http.Request, proto bool, shapes ...shape) (accepted, error) {
	header := r.Header.Get("Accept")
	a := accepted{media: mediaJSON, pretty: isTrue(r.URL.Query().Get("pretty"))}
	if header == "" {
		return a, nil
	}
	for _, c := range parseAccept(header) {
		media, ok := served(c.media, proto)
		if !ok {
			continue
		}
		as := shape(c.params["as"])
		if as == shapeWhole {
			a.media = media
			return a, nil
		}
		v := c.params["v"]
		if c.params["g"] != "meta.k8s.io" || (v != "v1" && v != "v1beta1") {
			continue
		}
		if has(shapes, partialOther[as]) && !has(shapes, as) {
			a.media, a.refused = media, statusError(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable, fmt.Sprintf("you requested %s, but the requested object is %s", as, partialWhy[as]))
			return a, nil
		}
		if !has(shapes, as) {
			continue
		}
		if as == shapeTable && media == mediaProto {
			media = mediaJSON
			if c.media == mediaProto {
				continue
			}
		}
		a.media, a.shape, a.version = media, as, v
		return a, nil
	}
	return accepted{}, notAcceptable(mediaJSON, mediaYAML, mediaProto)
}

func served(media string, proto bool) (string, bool) {
	switch media {
	case "*/*", "application/*", mediaJSON:
		return mediaJSON, true
	case mediaYAML:
		return mediaYAML, true
	case mediaProto:
		return mediaProto, proto
	}
	return "", false
}

func has(shapes []shape, s shape) bool {
	for _, x := range shapes {
		if x == s {
			return true
		}
	}
	return false
}
