//! How a step ended, with the reason for whoever reads the table.

/// The outcome of a step.
///
/// An `Err` beside it means that the step could not be carried out at all; for the table that is a
/// failure too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ran and found something wrong.
    Failed(String),
    /// It ran and found nothing wrong.
    Passed {
        /// The part that it had to leave out, if any: named in the table, so that nobody takes the
        /// pass for more than it was.
        missing: Option<String>,
    },
    /// It did not run, because this machine lacks something that could not be had.
    Skipped(String),
}

impl Outcome {
    /// The step ran, whole.
    pub(crate) const PASSED: Self = Self::Passed { missing: None };

    /// Returns the word for the table and the count.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Passed { .. } => "passed",
            Self::Skipped(_) => "skipped",
        }
    }

    /// Returns the remark for the table; empty for a step that passed whole.
    pub(crate) fn remark(&self) -> String {
        match self {
            Self::Failed(reason) | Self::Skipped(reason) => reason.clone(),
            Self::Passed {
                missing: Some(missing),
            } => format!("without {missing}"),
            Self::Passed { missing: None } => String::new(),
        }
    }
}
