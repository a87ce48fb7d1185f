//! The nearest known word to a misspelt one, for error messages.

/// Gives the known word that is nearest to `word`, `None` when none is near enough to be meant.
///
/// Near means at most a third of the letters changed, added, lost or swapped with their neighbour.
///
/// Source: Damerau–Levenshtein distance, optimal string alignment.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn distance(a: &str, b: &str) -> usize {
    const LETTERS_MAX: usize = 64;
    let a: Vec<char> = a.chars().take(LETTERS_MAX).collect();
    let b: Vec<char> = b.chars().take(LETTERS_MAX).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_words_find_what_was_meant_and_strangers_find_nothing() {
        let known = ["evaluation_interval", "cleanup_interval", "enabled", "for"];
        let check = |word, expected| assert_eq!(nearest(word, known), expected);
        check("evalution_interval", Some("evaluation_interval"));
        check("enabeld", Some("enabled"));
        check("fro", Some("for"));
        check("lables", None);
        assert_eq!(nearest("lables", ["labels", "levels"]), Some("labels"));
        assert_eq!(distance("kitten", "sitting"), 3);
        check("receiver", None);
    }
}
