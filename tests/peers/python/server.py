"""A control plane over the types that gRPC's Python project publishes, written from the protocol's description alone.

Each line of the standard input is a snapshot, {"version": "2", "resources": [{"@type": ..., ...}]}; each line of the output tells
what a client answered: {"type": ..., "version": ..., "error": ...}. Responses to one stream follow the order of types below, and
the state of the world is sent in full, whatever changed. REST ignores versions: it always answers with everything.
"""

import argparse
import http.server
import json
import queue
import sys
import threading
from concurrent import futures

import grpc
from google.protobuf import any_pb2, json_format

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401, resources hold it
from envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: F401
    http_connection_manager_pb2,
)
from envoy.service.discovery.v3 import discovery_pb2

PREFIX = "type.googleapis.com/"
# In the order in which a change is told: what is referred to goes first.
TYPES = {
    PREFIX + message.DESCRIPTOR.full_name: (message, key, service, path)
    for message, key, service, path in [
        (cluster_pb2.Cluster, "name", "Cluster", "clusters"),
        (endpoint_pb2.ClusterLoadAssignment, "cluster_name", "Endpoint", "endpoints"),
        (listener_pb2.Listener, "name", "Listener", "listeners"),
        (route_pb2.RouteConfiguration, "name", "Route", "routes"),
    ]
}
WILDCARDS = list(TYPES)[0], list(TYPES)[2]


class Snapshot:
    """The resources of one version, packed, by type and name."""

    def __init__(self, version, resources):
        self.version = version
        self.packed = {type_url: {} for type_url in TYPES}
        for resource in resources:
            packed = json_format.ParseDict(resource, any_pb2.Any())
            message, key, _, _ = TYPES[packed.type_url]
            unpacked = message()
            packed.Unpack(unpacked)
            self.packed[packed.type_url][getattr(unpacked, key)] = packed


class Plane:
    """The current snapshot, and the streams that want to hear of another."""

    def __init__(self):
        self.lock = threading.Lock()
        self.snapshot = Snapshot("0", [])
        self.streams = set()

    def serve(self, snapshot):
        with self.lock:
            self.snapshot = snapshot
            for stream in self.streams:
                stream.put("changed")

    def tell(self, type_url, version, error):
        with self.lock:
            print(json.dumps({"type": type_url, "version": version, "error": error}), flush=True)


class Sotw:
    """One type on a stream of the state of the world."""

    def __init__(self, type_url):
        self.type_url = type_url
        self.names = None
        self.nonce = ""
        self.sent = None

    def take(self, request, plane):
        if self.nonce and request.response_nonce not in ("", self.nonce):
            return
        if request.response_nonce:
            plane.tell(self.type_url, request.version_info, request.error_detail.message)
        names = set(request.resource_names)
        if self.names is not None and names - self.names:
            self.sent = None
        self.names = names

    def response(self, snapshot, number):
        if self.names is None or self.sent == snapshot.version:
            return None
        self.sent, self.nonce = snapshot.version, str(number)
        every = snapshot.packed[self.type_url]
        chosen = every if self.type_url in WILDCARDS else {n: every[n] for n in self.names if n in every}
        if not chosen and self.type_url not in WILDCARDS:
            return None
        return discovery_pb2.DiscoveryResponse(
            version_info=snapshot.version,
            type_url=self.type_url,
            nonce=self.nonce,
            resources=list(chosen.values()),
        )


class Delta:
    """One type on an incremental stream."""

    def __init__(self, type_url):
        self.type_url = type_url
        self.names = None
        self.known = {}
        self.versions = {}

    def take(self, request, plane):
        if request.response_nonce:
            version = self.versions.pop(request.response_nonce, "")
            plane.tell(self.type_url, version, request.error_detail.message)
        if self.names is None:
            self.names = set()
            self.known = {name: None for name in request.initial_resource_versions}
        self.names |= set(request.resource_names_subscribe)
        self.names -= set(request.resource_names_unsubscribe)
        for name in [*request.resource_names_subscribe, *request.resource_names_unsubscribe]:
            self.known.pop(name, None)

    def response(self, snapshot, number):
        if self.names is None:
            return None
        every = snapshot.packed[self.type_url]
        if self.type_url not in WILDCARDS:
            every = {name: every[name] for name in self.names if name in every}
        changed = {n: packed for n, packed in every.items() if self.known.get(n) != packed.value}
        removed = [name for name in self.known if name not in every]
        if not changed and not removed:
            return None
        self.known = {name: packed.value for name, packed in every.items()}
        self.versions[str(number)] = snapshot.version
        return discovery_pb2.DeltaDiscoveryResponse(
            system_version_info=snapshot.version,
            type_url=self.type_url,
            nonce=str(number),
            removed_resources=removed,
            resources=[
                discovery_pb2.Resource(name=name, version=snapshot.version, resource=packed)
                for name, packed in changed.items()
            ],
        )


def stream(plane, kind, only):
    """The handler of a method; `only` is its type, or none for the aggregated one."""

    def run(requests, context):
        topics = {type_url: kind(type_url) for type_url in TYPES}
        inbox = queue.Queue()
        context.add_callback(lambda: inbox.put(None))

        def read():
            try:
                for request in requests:
                    inbox.put(request)
            except grpc.RpcError:
                pass  # The client went away.
            inbox.put(None)

        threading.Thread(target=read, daemon=True).start()
        with plane.lock:
            plane.streams.add(inbox)
        number = 0
        while (item := inbox.get()) is not None:
            if item != "changed" and (topic := topics.get(only or item.type_url)):
                topic.take(item, plane)
            for topic in topics.values():
                number += 1
                if response := topic.response(plane.snapshot, number):
                    yield response
        with plane.lock:
            plane.streams.discard(inbox)

    return run


def handlers(plane):
    def service(name, sotw, delta, only):
        request = discovery_pb2.DiscoveryRequest.FromString
        delta_request = discovery_pb2.DeltaDiscoveryRequest.FromString
        methods = {
            sotw: grpc.stream_stream_rpc_method_handler(
                stream(plane, Sotw, only), request, lambda message: message.SerializeToString()
            ),
            delta: grpc.stream_stream_rpc_method_handler(
                stream(plane, Delta, only), delta_request, lambda message: message.SerializeToString()
            ),
        }
        return grpc.method_handlers_generic_handler("envoy.service." + name, methods)

    yield service(
        "discovery.v3.AggregatedDiscoveryService",
        "StreamAggregatedResources",
        "DeltaAggregatedResources",
        None,
    )
    for type_url, (_, _, name, path) in TYPES.items():
        kind = path.capitalize()
        full = f"{name.lower()}.v3.{name}DiscoveryService"
        yield service(full, "Stream" + kind, "Delta" + kind, type_url)


def rest(plane):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            kinds = {f"/v3/discovery:{path}": url for url, (_, _, _, path) in TYPES.items()}
            type_url = kinds[self.path]
            text = self.rfile.read(int(self.headers["content-length"]))
            request = json_format.Parse(text, discovery_pb2.DiscoveryRequest())
            if request.version_info or request.HasField("error_detail"):
                plane.tell(type_url, request.version_info, request.error_detail.message)
            topic = Sotw(type_url)
            topic.names = set(request.resource_names)
            response = topic.response(plane.snapshot, 0) or discovery_pb2.DiscoveryResponse()
            body = json_format.MessageToJson(response).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("-grpc", required=True)
    arguments.add_argument("-rest", required=True)
    arguments.add_argument("-ads", help="this server keeps nothing back, so it does not matter")
    given = arguments.parse_args()
    plane = Plane()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
    server.add_generic_rpc_handlers(tuple(handlers(plane)))
    server.add_insecure_port(given.grpc)
    host, port = given.rest.split(":")
    polls = http.server.ThreadingHTTPServer((host, int(port)), rest(plane))
    threading.Thread(target=polls.serve_forever, daemon=True).start()
    started = False
    for line in sys.stdin:
        given = json.loads(line)
        plane.serve(Snapshot(given["version"], given["resources"]))
        if not started:
            started = True
            server.start()


if __name__ == "__main__":
    main()
