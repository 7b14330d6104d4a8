//! Statistics of listeners.

use crate::stat_group;

stat_group! {
    /// `listener.<address>.`
    pub struct ListenerStats {
        counter downstream_cx_total,
        counter downstream_cx_destroy,
        gauge downstream_cx_active,
        histogram downstream_cx_length_ms,
        counter downstream_cx_transport_socket_connect_timeout,
        counter downstream_cx_overflow,
        counter downstream_cx_overload_reject,
        counter downstream_global_cx_overflow,
        counter downstream_pre_cx_timeout,
        gauge downstream_pre_cx_active,
        counter no_filter_chain_match,
        counter downstream_listener_filter_remote_close,
        counter downstream_listener_filter_error,
        counter downstream_cx_proxy_proto_error,
    }
}

stat_group! {
    /// `listener_manager.`
    pub struct ListenerManagerStats {
        counter listener_added,
        counter listener_modified,
        counter listener_removed,
        counter listener_stopped,
        counter listener_create_success,
        counter listener_create_failure,
        counter listener_in_place_updated,
        gauge total_filter_chains_draining,
        gauge total_listeners_warming,
        gauge total_listeners_active,
        gauge total_listeners_draining,
        gauge workers_started,
    }
}

stat_group! {
    /// `tls_inspector.`
    pub struct TlsInspectorStats {
        counter client_hello_too_large,
        counter tls_found,
        counter tls_not_found,
        counter alpn_found,
        counter alpn_not_found,
        counter sni_found,
        counter sni_not_found,
    }
}

stat_group! {
    /// `http_inspector.`
    pub struct HttpInspectorStats {
        counter read_error,
        counter http10_found,
        counter http11_found,
        counter http2_found,
        counter http_not_found,
    }
}

stat_group! {
    /// `proxy_proto.<stat_prefix>.`
    pub struct ProxyProtocolStats {
        counter not_found_allowed,
        counter not_found_disallowed,
    }
}

stat_group! {
    /// `proxy_proto.<stat_prefix>.versions.v1.` and `v2.`
    pub struct ProxyVersionStats {
        counter found,
        counter disallowed,
        counter error,
    }
}

stat_group! {
    /// `tcp.<stat_prefix>.`
    pub struct TcpStats {
        counter downstream_cx_total,
        counter downstream_cx_no_route,
        counter downstream_cx_rx_bytes_total,
        counter downstream_cx_tx_bytes_total,
        counter idle_timeout,
        counter max_downstream_connection_duration,
        counter upstream_flush_total,
        gauge upstream_flush_active,
    }
}
