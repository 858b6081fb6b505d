//! What runs on control-plane nodes: it alone holds keys. A thin edge around [`crate::encryption`].

pub mod sealing;
