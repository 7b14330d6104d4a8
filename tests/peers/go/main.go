// A control plane over go-control-plane's snapshot cache, driven by its standard input and output.
//
// Each line of the input is a snapshot, {"version": "2", "resources": [{"@type": ..., ...}]}, which is served to every node. Each
// line of the output tells what a client answered: {"type": ..., "version": ..., "error": ...}. The flag -ads says that clients
// use the aggregated stream, for which the cache keeps resources back until their names were asked for. REST is served on its own
// port.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"sync"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservice "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	listenerservice "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routeservice "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
)

// everyNode is the key of the only snapshot.
type everyNode struct{}

func (everyNode) ID(*core.Node) string { return "every" }

func main() {
	streams := flag.String("grpc", "127.0.0.1:0", "address of the gRPC services")
	polls := flag.String("rest", "127.0.0.1:0", "address of the REST endpoints")
	ads := flag.Bool("ads", false, "whether clients use the aggregated stream")
	flag.Parse()

	snapshots := cache.NewSnapshotCache(*ads, everyNode{}, nil)
	planes := server.NewServer(context.Background(), snapshots, answers())
	go serveStreams(*streams, planes)
	go servePolls(*polls, planes)
	readSnapshots(snapshots)
}

// answers prints what clients say to what they got. A client's first request answers nothing.
func answers() server.CallbackFuncs {
	var lock sync.Mutex
	output := json.NewEncoder(os.Stdout)
	tell := func(typeURL, version, nonce string, err *status.Status) {
		if nonce == "" && version == "" && err == nil {
			return
		}
		lock.Lock()
		defer lock.Unlock()
		line := map[string]string{"type": typeURL, "version": version, "error": err.GetMessage()}
		if err := output.Encode(line); err != nil {
			log.Fatal(err)
		}
	}
	// A delta request has no version: the nonce says what is answered.
	var sent sync.Map
	return server.CallbackFuncs{
		StreamRequestFunc: func(_ int64, r *discovery.DiscoveryRequest) error {
			tell(r.GetTypeUrl(), r.GetVersionInfo(), r.GetResponseNonce(), r.GetErrorDetail())
			return nil
		},
		FetchRequestFunc: func(_ context.Context, r *discovery.DiscoveryRequest) error {
			tell(r.GetTypeUrl(), r.GetVersionInfo(), r.GetResponseNonce(), r.GetErrorDetail())
			return nil
		},
		StreamDeltaResponseFunc: func(id int64, r *discovery.DeltaDiscoveryRequest, response *discovery.DeltaDiscoveryResponse) {
			sent.Store([3]any{id, r.GetTypeUrl(), response.GetNonce()}, response.GetSystemVersionInfo())
		},
		StreamDeltaRequestFunc: func(id int64, r *discovery.DeltaDiscoveryRequest) error {
			version, _ := sent.LoadAndDelete([3]any{id, r.GetTypeUrl(), r.GetResponseNonce()})
			text, _ := version.(string)
			tell(r.GetTypeUrl(), text, r.GetResponseNonce(), r.GetErrorDetail())
			return nil
		},
	}
}

func serveStreams(address string, planes server.Server) {
	socket, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	streams := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(streams, planes)
	clusterservice.RegisterClusterDiscoveryServiceServer(streams, planes)
	endpointservice.RegisterEndpointDiscoveryServiceServer(streams, planes)
	listenerservice.RegisterListenerDiscoveryServiceServer(streams, planes)
	routeservice.RegisterRouteDiscoveryServiceServer(streams, planes)
	log.Fatal(streams.Serve(socket))
}

func servePolls(address string, planes server.Server) {
	gateway := server.HTTPGateway{Server: planes}
	answer := func(writer http.ResponseWriter, request *http.Request) {
		body, code, err := gateway.ServeHTTP(request)
		if err != nil {
			body = []byte(err.Error())
		}
		writer.WriteHeader(code)
		_, _ = writer.Write(body) // A client that went away asks again.
	}
	log.Fatal(http.ListenAndServe(address, http.HandlerFunc(answer)))
}

// readSnapshots serves each line of the input until it ends.
func readSnapshots(snapshots cache.SnapshotCache) {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		snapshot, err := parse(lines.Bytes())
		if err == nil {
			err = snapshots.SetSnapshot(context.Background(), "every", snapshot)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
}

func parse(line []byte) (*cache.Snapshot, error) {
	var given struct {
		Version   string
		Resources []json.RawMessage
	}
	if err := json.Unmarshal(line, &given); err != nil {
		return nil, err
	}
	resources := map[resource.Type][]types.Resource{
		resource.ClusterType: {}, resource.EndpointType: {}, resource.ListenerType: {}, resource.RouteType: {},
	}
	for _, text := range given.Resources {
		var packed anypb.Any
		if err := protojson.Unmarshal(text, &packed); err != nil {
			return nil, err
		}
		message, err := packed.UnmarshalNew()
		if err != nil {
			return nil, err
		}
		resources[packed.GetTypeUrl()] = append(resources[packed.GetTypeUrl()], message)
	}
	snapshot, err := cache.NewSnapshot(given.Version, resources)
	if err != nil {
		return nil, err
	}
	return snapshot, snapshot.Consistent()
}
