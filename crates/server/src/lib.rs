//! Serves the HTTP API and the pages.
