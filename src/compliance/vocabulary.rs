//! The small words of the catalogue: how grave, kept by what, asked for by whom.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How grave a failure is. Ordered from the lightest to the gravest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Worth knowing; weighs nothing.
    Info,
    /// Weighs 1 in the score.
    Low,
    /// Weighs 3.
    Medium,
    /// Weighs 5.
    High,
    /// Weighs 10, and one failure alone denies `Conforms`.
    Critical,
}

impl Severity {
    /// Every severity, gravest first.
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Info];
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "Info",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
        })
    }
}

/// What keeps a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mechanism {
    /// Network policies, kept by the CNI.
    Network,
    /// Encryption at rest, kept by the API server and the storage.
    Encryption,
    /// A request is refused at the API server.
    Admission,
    /// Somebody brings a document or a report.
    Evidence,
    /// The cluster is observed; nothing is refused.
    Posture,
}

/// A text that references point into. Declared, and sorted, in the order in which messages prefer them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// ANSSI-PA-102, R1 to R35.
    Anssi,
    /// BSI and ANSSI, zero-trust principles for LLM systems, Z1 to Z6.
    ZeroTrust,
    /// Regulation (EU) 2024/1689 as amended.
    AiAct,
    /// Regulation (EU) 2016/679.
    Gdpr,
    /// ISO/IEC 42001:2023; `clause 5.3` or `A.5.3`, because the same number means two things.
    Iso42001,
    /// NIST AI Risk Management Framework 1.0.
    NistAiRmf,
    /// NIST SP 800-218A.
    Sp800218a,
    /// NIST SP 800-53.
    Sp80053,
    /// CIS Kubernetes Benchmark 1.12.
    CisKubernetes,
    /// OWASP AI Security Verification Standard 1.0.
    Aisvs,
    /// OWASP Top 10 for LLM applications 2025.
    OwaspLlm,
    /// MITRE ATLAS 5.6.
    Atlas,
    /// AFNOR SPEC 2314.
    Afnor,
    /// Codes of the French State's security policy.
    Pssi,
    /// The two texts this project started from.
    Seed,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Anssi => "ANSSI",
            Self::ZeroTrust => "Zero trust",
            Self::AiAct => "AI Act",
            Self::Gdpr => "GDPR",
            Self::Iso42001 => "ISO 42001",
            Self::NistAiRmf => "NIST AI RMF",
            Self::Sp800218a => "SP 800-218A",
            Self::Sp80053 => "SP 800-53",
            Self::CisKubernetes => "CIS Kubernetes",
            Self::Aisvs => "AISVS",
            Self::OwaspLlm => "OWASP LLM",
            Self::Atlas => "ATLAS",
            Self::Afnor => "AFNOR",
            Self::Pssi => "PSSI",
            Self::Seed => "seed",
        })
    }
}
