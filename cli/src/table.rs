//! Tables for people: columns side by side, no lines.

use jiff::Timestamp;

use crate::failure::plain;

/// Space between columns.
const GAP: usize = 3;
/// A longer cell is cut, except in the first column.
const WIDEST: usize = 64;

/// The table, each line with its end.
pub(crate) fn render(titles: &[&str], rows: &[Vec<String>]) -> String {
    let titles = titles.iter().map(|title| (*title).to_owned()).collect();
    let rows =
        rows.iter().map(|row| row.iter().enumerate().map(|(column, cell)| fit(column, cell)).collect());
    let lines: Vec<Vec<String>> = std::iter::once(titles).chain(rows).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| lines.iter().filter_map(|line| Some(line.get(column)?.chars().count())).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default() + GAP).collect();
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.concat().trim_end());
        text.push('\n');
    }
    text
}

fn fit(column: usize, cell: &str) -> String {
    let cell = match cell {
        "" => "-".to_owned(),
        cell => plain(cell).replace('\n', "\\n"),
    };
    if column == 0 || cell.chars().count() <= WIDEST {
        return cell;
    }
    cell.chars().take(WIDEST - 1).chain(['…']).collect()
}

/// How old something is, in its largest unit that is not too coarse: `90s`, `5m`, `30h`, `12d`.
pub(crate) fn age(created: Option<Timestamp>, now: Timestamp) -> String {
    let Some(created) = created else { return String::new() };
    // A clock that is behind the server's: as good as new.
    let seconds = (now.as_second() - created.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_their_titles() {
        let rows = [
            vec!["redis".into(), String::new(), "5m".into()],
            vec!["a".into(), "ä\u{7}\n".into(), "1d".into()],
        ];
        assert_eq!(
            render(&["NAME", "X", "AGE"], &rows),
            "NAME    X          AGE\nredis   -          5m\na       ä\\u{7}\\n   1d\n"
        );
        assert_eq!(render(&["NAME"], &[]), "NAME\n");
    }

    #[test]
    fn long_cells_are_cut_but_names_are_not() {
        let long = "x".repeat(100);
        let text = render(&["NAME", "Y"], &[vec![long.clone(), long.clone()]]);
        assert!(text.contains(&format!("{long}   {}…\n", "x".repeat(63))), "{text}");
    }

    #[test]
    fn ages_are_short() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let of = |seconds: i64| age(Some(at(1_000_000)), at(1_000_000 + seconds));
        let ages = [-5, 0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(of);
        assert_eq!(ages, ["0s", "0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
        assert_eq!(age(None, at(0)), "");
    }
}
