//! The `Authorization` header: what is read of Basic credentials has a user without a colon.

pub(super) fn run(input: &[u8]) {
    if let Some((user, _secret)) = quarterdeck_server::fuzz::authorization(input) {
        assert!(!user.contains(':'));
    }
}
