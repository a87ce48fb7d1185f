//! Who built the program, and from what.

/// The commit, when the builder says it by `MARKETPRISM_REVISION`.
pub const REVISION: &str = match option_env!("MARKETPRISM_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// When it was built, RFC 3339, when the builder says it by `MARKETPRISM_BUILT_AT`.
pub const BUILT_AT: &str = match option_env!("MARKETPRISM_BUILT_AT") {
    Some(at) => at,
    None => "",
};
