use std::cell::RefCell;

use super::*;
use crate::Hits;

/// Documents of these lengths whose losses are the width over the place; remembers what was asked of it.
struct Set {
    lengths: Vec<(usize, usize)>,
    classes: bool,
    asked: RefCell<Vec<(Vec<usize>, usize)>>,
}

fn set(lengths: &[(usize, usize)]) -> Set {
    Set { lengths: lengths.to_vec(), classes: false, asked: RefCell::default() }
}

impl HeldOutSet<()> for Set {
    fn units(&self) -> Vec<(Unit, DocumentLoss)> {
        let unread = |start| DocumentLoss { bytes: 7, cluster: Some(start), ..Default::default() };
        let of = |(start, targets): &(usize, usize)| {
            (Unit { start: *start, targets: *targets }, unread(*start))
        };
        self.lengths.iter().map(of).collect()
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn context(&self) -> Option<usize> {
        Some(8)
    }

    fn piece(&self) -> usize {
        12
    }

    fn measure(
        &self,
        (): &(),
        places: &[usize],
        submodels: &[Submodel],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Evaluation> {
        self.asked.borrow_mut().push((places.to_vec(), submodels.len()));
        progress(1, 2);
        let units = self.units();
        let of = |submodel: &Submodel| {
            let losses = places.iter().map(|at| {
                let (unit, unread) = units[*at];
                let nats = submodel.widths()[0] as f64 / (1 + unit.start) as f64;
                let hits = self.classes.then_some(Hits { top1: *at % 2, top5: 1 });
                DocumentLoss { nats, tokens: unit.targets, hits, ..unread }
            });
            SubmodelLosses { submodel: submodel.clone(), documents: losses.collect() }
        };
        let submodels = submodels.iter().map(of).collect();
        Ok(Evaluation { submodels, whole: true, context: Some(8) })
    }
}

fn open(folder: &Path, weights: &str) -> Store {
    Store::open(folder, &StoreKey { weights, data: "d", context: Some(8) }).unwrap()
}

fn submodels(widths: &[usize]) -> Vec<Submodel> {
    widths.iter().map(|width| Submodel::uniform(*width, 2)).collect()
}

fn evaluate(store: &mut Store, set: &Set, of: &[Submodel]) -> Studied {
    store.evaluate(&(), set, of, &mut |done, total| assert!(done <= total)).unwrap()
}

#[test]
fn only_what_is_not_known_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let half = set(&[(0, 3), (20, 5)]);
    let first = evaluate(&mut open(folder.path(), "w"), &half, &submodels(&[4, 8, 4]));
    assert_eq!(first.measured, submodels(&[4, 8]));
    assert_eq!(first.evaluation.submodels[2], first.evaluation.submodels[0]);
    // Another process asks for more documents and submodels: 16 is new, the others on the documents in between.
    let all = set(&[(0, 3), (10, 4), (20, 5)]);
    let more = evaluate(&mut open(folder.path(), "w"), &all, &submodels(&[16, 8, 4]));
    assert_eq!(*all.asked.borrow(), [(vec![0, 1, 2], 1), (vec![1], 2)]);
    let alone = all.measure(&(), &[0, 1, 2], &submodels(&[16, 8, 4]), &mut |_, _| {}).unwrap();
    assert_eq!(more.evaluation, alone);
    // Then nothing is new, of a part neither.
    for set in [&all, &half, &set(&[(10, 4)])] {
        set.asked.borrow_mut().clear();
        let mut store = open(folder.path(), "w");
        assert!(evaluate(&mut store, set, &submodels(&[4, 16, 8])).measured.is_empty());
        assert!(set.asked.borrow().is_empty());
        assert_eq!(store.known(&set.units()).len(), 3);
    }
    // A beginning of a document is not the document, and other weights are another model.
    let begin = set(&[(0, 2)]);
    assert_eq!(evaluate(&mut open(folder.path(), "w"), &begin, &submodels(&[4])).measured.len(), 1);
    assert_eq!(evaluate(&mut open(folder.path(), "v"), &half, &submodels(&[4])).measured.len(), 1);
    assert!(open(folder.path(), "x").known(&half.units()).is_empty());
}

#[test]
fn ranks_measure_what_the_first_does_not_know_and_it_keeps_that() {
    let folder = tempfile::tempdir().unwrap();
    let lengths = [(0, 9), (9, 9), (18, 9)];
    evaluate(&mut open(folder.path(), "w"), &set(&lengths[1..2]), &submodels(&[8]));
    let asked = submodels(&[16, 8, 4]);
    let of_rank = |ranks: Exchange| {
        let data = set(&lengths);
        let found = if ranks.is_first() {
            let mut store = open(folder.path(), "w");
            store.share_among(ranks);
            evaluate(&mut store, &data, &asked)
        } else {
            evaluate(&mut Store::helping(ranks), &data, &asked)
        };
        (found.evaluation, data.asked.into_inner())
    };
    let found: Vec<_> = std::thread::scope(|scope| {
        let ranks = matformer_exchange::threads(2).into_iter();
        let ranks: Vec<_> = ranks.map(|rank| scope.spawn(|| of_rank(rank))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    let alone = set(&lengths).measure(&(), &[0, 1, 2], &asked, &mut |_, _| {}).unwrap();
    assert_eq!(found[0].0, alone);
    assert!(found[1].0.submodels.is_empty());
    assert_eq!(found[0].1, found[1].1);
    assert!(found[1].1.iter().any(|(places, _)| *places == [2]), "{:?}", found[1].1);
    assert!(evaluate(&mut open(folder.path(), "w"), &set(&lengths), &asked).measured.is_empty());
}

#[test]
fn classes_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let images = Set { classes: true, ..set(&[(0, 1), (1, 1), (2, 1)]) };
    let first = evaluate(&mut open(folder.path(), "w"), &images, &submodels(&[4, 8]));
    let again = evaluate(&mut open(folder.path(), "w"), &images, &submodels(&[4, 8]));
    assert_eq!(first.evaluation, again.evaluation);
    assert_eq!(again.evaluation.submodels[1].documents[1].hits, Some(Hits { top1: 1, top5: 1 }));
    assert_eq!(images.asked.borrow().len(), 1);
}

#[test]
fn what_two_measure_at_the_same_time_is_known_to_both() {
    let folder = tempfile::tempdir().unwrap();
    let data = set(&[(0, 3), (20, 5)]);
    let [mut a, mut b] = [(); 2].map(|()| open(folder.path(), "w"));
    evaluate(&mut a, &data, &submodels(&[4]));
    evaluate(&mut b, &data, &submodels(&[8]));
    a.refresh().unwrap();
    assert!(evaluate(&mut a, &data, &submodels(&[4, 8])).measured.is_empty());
    assert_eq!(open(folder.path(), "w").known(&data.units()).len(), 2);
}

#[test]
fn damaged_files_are_named_and_measured_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = set(&[(0, 3), (20, 5)]);
    evaluate(&mut open(folder.path(), "w"), &data, &submodels(&[4]));
    let dir = fs::read_dir(folder.path().join(Store::FOLDER)).unwrap().remove(0);
    let file = fs::read_dir(&dir).unwrap().remove(0);
    let bytes = fs::read(&file).unwrap();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&bytes[..bytes.len() - 1], &flipped, &bytes[..5], b"", b"{}"] {
        std::fs::write(&file, damaged).unwrap();
        let mut store = open(folder.path(), "w");
        assert_eq!(store.unreadable(), std::slice::from_ref(&file));
        assert_eq!(evaluate(&mut store, &data, &submodels(&[4])).measured.len(), 1);
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_does_not_cost_the_losses() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(Store::FOLDER), "in the way").unwrap();
    let mut store = open(folder.path(), "w");
    let found = evaluate(&mut store, &set(&[(0, 3)]), &submodels(&[4, 8]));
    assert_eq!(found.evaluation.submodels.len(), 2);
    assert!(store.not_kept().is_some());
    // Long data is several files.
    let long = set(&[(0, 5), (5, 9), (14, 20), (34, 1)]);
    evaluate(&mut store, &long, &submodels(&[4, 8]));
    assert_eq!(*long.asked.borrow(), [(vec![0, 1], 2), (vec![2], 2), (vec![3], 2)]);
    let error = store.evaluate(&(), &set(&[]), &submodels(&[4]), &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, Error::Nothing { .. }));
}
