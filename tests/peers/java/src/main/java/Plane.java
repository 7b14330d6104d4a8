import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Any;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import io.envoyproxy.controlplane.cache.v3.SimpleCache;
import io.envoyproxy.controlplane.cache.v3.Snapshot;
import io.envoyproxy.controlplane.server.DiscoveryServerCallbacks;
import io.envoyproxy.controlplane.server.V3DiscoveryServer;
import io.envoyproxy.envoy.config.cluster.v3.Cluster;
import io.envoyproxy.envoy.config.endpoint.v3.ClusterLoadAssignment;
import io.envoyproxy.envoy.config.listener.v3.Listener;
import io.envoyproxy.envoy.config.route.v3.RouteConfiguration;
import io.envoyproxy.envoy.extensions.filters.http.router.v3.Router;
import io.envoyproxy.envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager;
import io.envoyproxy.envoy.service.discovery.v3.DeltaDiscoveryRequest;
import io.envoyproxy.envoy.service.discovery.v3.DeltaDiscoveryResponse;
import io.envoyproxy.envoy.service.discovery.v3.DiscoveryRequest;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/**
 * A control plane over java-control-plane's cache, driven by its standard input and output as the one in Go is. It has no REST.
 */
public final class Plane {
  private static final String EVERY_NODE = "every";
  private static final JsonFormat.Parser PARSER =
      JsonFormat.parser()
          .usingTypeRegistry(
              JsonFormat.TypeRegistry.newBuilder()
                  .add(Cluster.getDescriptor())
                  .add(ClusterLoadAssignment.getDescriptor())
                  .add(Listener.getDescriptor())
                  .add(RouteConfiguration.getDescriptor())
                  .add(HttpConnectionManager.getDescriptor())
                  .add(Router.getDescriptor())
                  .build());

  private Plane() {}

  public static void main(String[] arguments) throws Exception {
    String address = "";
    for (String argument : arguments) {
      if (argument.startsWith("-grpc=")) {
        address = argument.substring("-grpc=".length());
      }
    }
    SimpleCache<String> cache = new SimpleCache<>(node -> EVERY_NODE);
    V3DiscoveryServer planes = new V3DiscoveryServer(new Answers(), cache);
    int colon = address.lastIndexOf(':');
    int port = Integer.parseInt(address.substring(colon + 1));
    NettyServerBuilder.forAddress(new InetSocketAddress(address.substring(0, colon), port))
        .addService(planes.getAggregatedDiscoveryServiceImpl())
        .addService(planes.getClusterDiscoveryServiceImpl())
        .addService(planes.getEndpointDiscoveryServiceImpl())
        .addService(planes.getListenerDiscoveryServiceImpl())
        .addService(planes.getRouteDiscoveryServiceImpl())
        .build()
        .start();
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      cache.setSnapshot(EVERY_NODE, parse(line));
    }
    System.exit(0);
  }

  private static Snapshot parse(String line) throws Exception {
    JsonObject given = JsonParser.parseString(line).getAsJsonObject();
    List<Any> resources = new ArrayList<>();
    for (JsonElement text : given.getAsJsonArray("resources")) {
      Any.Builder packed = Any.newBuilder();
      PARSER.merge(text.toString(), packed);
      resources.add(packed.build());
    }
    return Snapshot.create(
        only(resources, Cluster.class),
        only(resources, ClusterLoadAssignment.class),
        only(resources, Listener.class),
        only(resources, RouteConfiguration.class),
        List.of(),
        given.get("version").getAsString());
  }

  private static <T extends Message> List<T> only(List<Any> resources, Class<T> type)
      throws Exception {
    List<T> all = new ArrayList<>();
    for (Any resource : resources) {
      if (resource.is(type)) {
        all.add(resource.unpack(type));
      }
    }
    return all;
  }

  /** Prints what clients say to what they got. A client's first request answers nothing. */
  private static final class Answers implements DiscoveryServerCallbacks {
    private final Gson gson = new Gson();
    /** A delta request has no version: the nonce says what is answered. */
    private final Map<List<Object>, String> sent = new ConcurrentHashMap<>();

    @Override
    public void onV3StreamRequest(long stream, DiscoveryRequest request) {
      String error = request.getErrorDetail().getMessage();
      tell(request.getTypeUrl(), request.getVersionInfo(), request.getResponseNonce(), error);
    }

    @Override
    public void onV3StreamDeltaResponse(
        long stream, DeltaDiscoveryRequest request, DeltaDiscoveryResponse response) {
      List<Object> key = List.of(stream, response.getTypeUrl(), response.getNonce());
      sent.put(key, response.getSystemVersionInfo());
    }

    @Override
    public void onV3StreamDeltaRequest(long stream, DeltaDiscoveryRequest request) {
      List<Object> key = List.of(stream, request.getTypeUrl(), request.getResponseNonce());
      String version = sent.remove(key);
      String error = request.getErrorDetail().getMessage();
      tell(request.getTypeUrl(), version == null ? "" : version, request.getResponseNonce(), error);
    }

    private synchronized void tell(String type, String version, String nonce, String error) {
      if (!nonce.isEmpty()) {
        System.out.println(gson.toJson(Map.of("type", type, "version", version, "error", error)));
      }
    }
  }
}
