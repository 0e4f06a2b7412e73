//! Quantities of resources, such as `100m` or `1Gi`.
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

/// Exponent of 10 or 2 behind each suffix.
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, i32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// About how much it is: enough to compare two. `None` if it is no quantity, or below zero.
pub(crate) fn amount(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let by =
        |list: &[(&str, i32)]| list.iter().find(|(name, _)| *name == suffix).map(|(_, exponent)| *exponent);
    if let Some(exponent) = by(&DECIMAL) {
        return Some(number * 10_f64.powi(exponent));
    }
    if let Some(exponent) = by(&BINARY) {
        return Some(number * 2_f64.powi(exponent));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some(number * 10_f64.powi(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_spells_them() {
        for (text, expected) in [
            ("1", 1.0),
            ("0.5", 0.5),
            (".5", 0.5),
            ("2.", 2.0),
            ("1k", 1e3),
            ("1Ki", 1024.0),
            ("2e3", 2e3),
            ("1E", 1e18),
        ] {
            assert!((amount(text).unwrap() - expected).abs() < 1e-9, "{text}");
        }
        assert!((amount("100m").unwrap() - 0.1).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "m", "-1", "+1x", "1 Gi", "1gi", "1.2.3", "1e", "1Kib", "ten", "1e99999999999"] {
            assert_eq!(amount(text), None, "{text}");
        }
    }
}
