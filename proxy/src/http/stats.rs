//! Statistics of an HTTP connection manager (`http.<stat_prefix>.`) and of the listener it serves.

use crate::stat_group;

stat_group! {
    /// `http.<stat_prefix>.`
    pub struct HttpStats {
        counter downstream_cx_total,
        counter downstream_cx_ssl_total,
        counter downstream_cx_http1_total,
        counter downstream_cx_http2_total,
        counter downstream_cx_upgrades_total,
        counter downstream_cx_destroy,
        counter downstream_cx_destroy_local,
        counter downstream_cx_destroy_remote,
        counter downstream_cx_destroy_active_rq,
        counter downstream_cx_destroy_local_active_rq,
        counter downstream_cx_destroy_remote_active_rq,
        gauge downstream_cx_active,
        gauge downstream_cx_ssl_active,
        gauge downstream_cx_http1_active,
        gauge downstream_cx_http2_active,
        gauge downstream_cx_upgrades_active,
        counter downstream_cx_protocol_error,
        histogram downstream_cx_length_ms,
        counter downstream_cx_drain_close,
        counter downstream_cx_delayed_close_timeout,
        counter downstream_cx_idle_timeout,
        counter downstream_cx_max_duration_reached,
        counter downstream_cx_max_requests_reached,
        counter downstream_cx_overload_disable_keepalive,
        counter downstream_rq_total,
        counter downstream_rq_http1_total,
        counter downstream_rq_http2_total,
        gauge downstream_rq_active,
        counter downstream_rq_response_before_rq_complete,
        counter downstream_rq_rx_reset,
        counter downstream_rq_tx_reset,
        counter downstream_rq_non_relative_path,
        counter downstream_rq_too_large,
        codes downstream_rq,
        counter downstream_rq_failed_path_normalization,
        counter downstream_rq_redirected_with_normalized_path,
        counter downstream_rq_ws_on_non_ws_route,
        histogram downstream_rq_time,
        counter downstream_rq_overload_close,
        counter downstream_rq_idle_timeout,
        counter downstream_rq_max_duration_reached,
        counter downstream_rq_timeout,
        counter downstream_rq_header_timeout,
        counter no_route,
        counter no_cluster,
        counter passthrough_internal_redirect_bad_location,
        counter passthrough_internal_redirect_no_route,
        counter passthrough_internal_redirect_predicate,
        counter passthrough_internal_redirect_too_many_redirects,
        counter passthrough_internal_redirect_unsafe_scheme,
        counter rq_total,
        counter rq_direct_response,
        counter rq_redirect,
        counter rq_reset_after_downstream_response_started,
    }
}

stat_group! {
    /// `http1.` or `http2.`
    pub struct CodecStats {
        counter dropped_headers_with_underscores,
        counter requests_rejected_with_underscores_in_headers,
    }
}

stat_group! {
    /// `listener.<address>.http.<stat_prefix>.`
    pub struct ListenerHttpStats {
        codes downstream_rq,
    }
}
