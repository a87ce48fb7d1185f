//! Expands Go templates as Prometheus and Alertmanager users write them.
