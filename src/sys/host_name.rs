//! What the name of a machine may be.

/// What the kernel keeps of a name (`HOST_NAME_MAX`, gethostname(2)).
const LENGTH_MAX: usize = 64;

/// Whether a text is a host name (RFC 1123 section 2.1) that the kernel can keep.
pub fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !(label.is_empty() || label.starts_with('-') || label.ends_with('-'))
    };
    text.len() <= LENGTH_MAX && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_letters_digits_and_inner_dashes() {
        for good in ["a", "vm-1.example", "0"] {
            assert!(is_host_name(good), "{good:?}");
        }
        for bad in ["", ".", "a.", "-a", "a-", "a_b", "a b", "a/b", "é", "a\n", &"x".repeat(LENGTH_MAX + 1)]
        {
            assert!(!is_host_name(bad), "{bad:?}");
        }
    }
}
