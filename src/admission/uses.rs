//! Uses of AI that the law prohibits or restricts, as data. `AiSecurityPolicy` may replace either list.

/// A use and where it is prohibited or restricted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// As in `AiWorkload.spec.uses`.
    pub name: &'static str,
    /// Of Regulation (EU) 2024/1689 as amended, unless another text is named.
    pub article: &'static str,
}

const fn of(name: &'static str, article: &'static str) -> Use {
    Use { name, article }
}

/// Practices of Art. 5, in its order.
pub const PROHIBITED_USES: &[Use] = &[
    of("SubliminalManipulation", "Art. 5(1)(a)"),
    of("ExploitationOfVulnerability", "Art. 5(1)(b)"),
    of("NonConsensualIntimateImagery", "Art. 5(1)(ba)"),
    of("ChildSexualAbuseMaterial", "Art. 5(1)(bb)"),
    of("SocialScoring", "Art. 5(1)(c)"),
    of("CrimePredictionByProfiling", "Art. 5(1)(d)"),
    of("FacialImageScraping", "Art. 5(1)(e)"),
    of("EmotionRecognitionAtWork", "Art. 5(1)(f)"),
    of("EmotionRecognitionInEducation", "Art. 5(1)(f)"),
    of("BiometricCategorisationOfSensitiveTraits", "Art. 5(1)(g)"),
    of("RealTimeRemoteBiometricIdentification", "Art. 5(1)(h)"),
];

/// Uses that need an approved legal assessment: Annex III(1), and special data. The gate is the open list.
pub const RESTRICTED_USES: &[Use] = &[
    of("BiometricIdentification", "Annex III(1)(a)"),
    of("BiometricCategorisation", "Annex III(1)(b)"),
    of("EmotionRecognition", "Annex III(1)(c)"),
    of("SpecialCategoryData", "GDPR Art. 9"),
];

/// The uses that rule `DAT-01/intimate-imagery` speaks of.
pub(super) const INTIMATE_IMAGERY: &[&str] = &["NonConsensualIntimateImagery", "ChildSexualAbuseMaterial"];
