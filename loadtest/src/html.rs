//! The report as a page: one file with its figures, the script that draws them and the plots'
//! library. It fetches nothing, so it can be opened from anywhere.
//!
//! The page is drawn in the browser (`assets/report.js`), from the same JSON that other programs
//! read. That holds texts of the server, which may be hostile: they cannot end the element that
//! they are in, and no script runs but those that are here, for only they have the page's nonce.

use serde::Serialize;

/// Returns the page of a report, whose tables are in the order of its fields.
pub(crate) fn page(report: &impl Serialize) -> String {
    format!(
        include_str!("../assets/report.html"),
        nonce = format_args!("{:032x}", fastrand::u128(..)),
        plot_licence = include_str!("../assets/uplot/LICENSE"),
        plot_script = include_str!("../assets/uplot/uPlot.iife.min.js"),
        plot_style = include_str!("../assets/uplot/uPlot.min.css"),
        report = embedded(report),
        script = include_str!("../assets/report.js"),
        style = include_str!("../assets/report.css"),
    )
}

/// Returns JSON without `<`, so that neither `</script>` nor `<!--` is in it. Only strings can have
/// had one, and there the escape says the same.
fn embedded(report: &impl Serialize) -> String {
    let json = serde_json::to_string(report).expect("numbers and strings are JSON");
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What the page's script reads.
    fn read_back(page: &str) -> Value {
        let start = "<script id=\"report\" type=\"application/json\">";
        let (_, rest) = page.split_once(start).unwrap();
        let (report, _) = rest.split_once("</script>").unwrap();
        serde_json::from_str(report).unwrap()
    }

    #[test]
    fn the_report_comes_out_of_the_page_as_it_went_in() {
        let report = json!({
            "deliveries": 5,
            "latency_us": null,
            "first_server_error": "a \"quote\", a \\, {braces}, {script}, \u{2028} and 茶",
        });
        assert_eq!(read_back(&page(&report)), report);
        assert_eq!(read_back(&page(&json!({}))), json!({}));
    }

    #[test]
    fn a_hostile_text_cannot_leave_its_element() {
        let elements = |page: &str| page.matches("<script").count();
        let harmless = elements(&page(&json!({})));
        for text in [
            "</script><script>alert(1)</script>",
            "</SCRIPT ><img src=x onerror=alert(1)>",
            "<!-- <script>",
            "]]><svg onload=alert(1)>",
        ] {
            let report = json!({ "first_server_error": text, text: text });
            let page = page(&report);
            assert!(!page.contains(text), "{text}");
            assert_eq!(elements(&page), harmless, "{text}");
            assert_eq!(read_back(&page), report);
        }
    }

    #[test]
    fn a_nonce_is_not_used_twice() {
        let nonce = || {
            let page = page(&json!({}));
            let (_, rest) = page.split_once("'nonce-").unwrap();
            rest[..32].to_owned()
        };
        assert_ne!(nonce(), nonce());
    }

    #[test]
    fn what_is_embedded_cannot_leave_its_element_either() {
        let scripts = [
            include_str!("../assets/report.js"),
            include_str!("../assets/uplot/uPlot.iife.min.js"),
        ];
        for script in scripts {
            assert!(!script.contains("</script") && !script.contains("<!--"));
        }
    }

    #[test]
    fn the_page_fetches_nothing() {
        let page = page(&json!({}));
        assert!(page.contains("default-src 'none'"));
        for fetching in ["src=\"", "@import", "url(", "href=\"http"] {
            assert!(!page.contains(fetching), "{fetching}");
        }
    }
}
