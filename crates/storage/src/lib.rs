//! Keeps samples: write-ahead log, head, blocks, index, retention.
