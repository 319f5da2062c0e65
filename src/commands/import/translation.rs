//! What another program's settings come to here. Pure.

/// What another program's settings come to here.
#[derive(Debug, Default)]
pub struct Translation {
    /// Our settings.
    pub settings: Vec<(&'static str, String)>,
    /// Quotas by the key of their account.
    pub quotas: Vec<(String, u32)>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// What has no like here. The command then ends with status 1.
    pub lost: Vec<String>,
}
