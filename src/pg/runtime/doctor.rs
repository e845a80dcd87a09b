//! Rows of `chatbot_doctor()`.

/// The result of a check of `chatbot_doctor()`.
pub struct DoctorRow {
    /// `ok`, `warning` or `error`.
    pub status: &'static str,
    /// What the check has found, for the DBA who calls `chatbot_doctor()`.
    pub detail: String,
    /// Advice, with a statement to run; `None`: nothing is to be done.
    pub hint: Option<String>,
}

impl DoctorRow {
    /// The columns of the row, with the name of the check.
    pub fn into_columns(self, check_name: &str) -> (String, String, String, Option<String>) {
        (check_name.to_owned(), self.status.to_owned(), self.detail, self.hint)
    }
}
