//! Side calls of the proxy itself through a cluster.
