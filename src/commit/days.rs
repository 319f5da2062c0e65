//! Days are made of minutes when they are over: the highest sums of each sender, see [`usual`]. In the background, since nothing
//! needs a day before the one after it is over, too. Whoever does it, and however often, comes to the same: it is made of what
//! all daemons have written. What was there before this program counted is made of the audit log in the same way, once.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;

use crate::account::network;
use crate::limiter::history;
use crate::limiter::usual::{self, Record};
use crate::store::days::{DayRow, NETWORKS_GAP};
use crate::store::past_messages::Place;
use crate::store::usage::SeenRow;
use crate::store::{Failure, Store};

/// Senders whose minutes are read at once, 2,880 of each at the most.
const SENDERS: usize = 16;
/// The database is the mail's: a step rests so many times as long as it took.
pub const BESIDE_MAIL: u32 = 4;
/// For one step.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes the days that are over at `now`, in Unix seconds, and were not made before. Each step rests `rest` times as long as
/// it took.
pub async fn make(store: &mut Store, now: i64, rest: u32) -> Result<(), Failure> {
    let ended = usual::ended(now);
    let first = *usual::days(now).start();
    let made_until = in_time(store, async |store| store.days_made_until().await).await?;
    let begin = made_until.unwrap_or(first).max(first);
    for day in begin..ended {
        make_one(store, Source::Usage, day, rest).await?;
    }
    // Some may have been found to be compromised since their days were made, or while they were.
    in_time(store, async |store| store.forget_compromised(begin.saturating_sub(1)..=ended).await).await?;
    if made_until != Some(ended) {
        in_time(store, async |store| store.set_days_made_until(ended).await).await?;
    }
    Ok(())
}

/// Makes days that are over at `now`, in Unix seconds, of the audit log, unless that was done before: of a database that
/// PolicydRateGuard counted in, or an older version of this program. Networks in `ignored` are no places. Returns how many days of
/// senders there were; None where only reading the whole log would tell, until `migrate` has made an index. Each step rests `rest`
/// times as long as it took.
pub async fn make_of_messages(
    store: &mut Store,
    ignored: &[IpNet],
    now: i64,
    rest: u32,
) -> Result<Option<usize>, Failure> {
    let past = *usual::days(now).start()..usual::ended(now);
    let days = in_time(store, async |store| store.days_of_messages(past.clone(), now).await).await?;
    if days.is_empty() {
        return Ok(Some(0));
    }
    if !in_time(store, async |store| store.finds_messages().await).await? {
        return Ok(None);
    }
    let (mut made, mut span) = (0, None::<(i64, i64)>);
    for day in days {
        let of_day = make_one(store, Source::Messages { ignored, now }, day, rest).await?;
        if of_day > 0 {
            let [begin, end] = [day, day + 1].map(|day| usual::first_minute_of(day).saturating_mul(60));
            // Beyond a gap nothing tells where senders were since.
            let reached = span.filter(|&(_, until)| begin.saturating_sub(until) <= NETWORKS_GAP);
            span = Some((reached.map_or(begin, |(from, _)| from), end));
        }
        made += of_day;
        in_time(store, async |store| store.set_messages_learnt(day + 1).await).await?;
    }
    if let Some((from, until)) = span {
        in_time(store, async |store| store.knows_networks(from, until, now).await).await?;
    }
    Ok(Some(made))
}

/// What days are made of.
#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Usage,
    Messages { ignored: &'a [IpNet], now: i64 },
}

/// Returns how many senders have the day.
async fn make_one(store: &mut Store, source: Source<'_>, day: i64, rest: u32) -> Result<usize, Failure> {
    let minutes = usual::first_minute_of(day)..usual::first_minute_of(day + 1);
    let mut made = 0;
    let senders = in_time(store, async |store| match source {
        Source::Usage => store.with_usage(minutes.clone()).await,
        Source::Messages { .. } => store.with_messages(minutes.clone()).await,
    })
    .await?;
    // The windows that end in it begin the day before.
    let days = day.saturating_sub(1)..=day;
    let compromised = in_time(store, async |store| store.compromised_rows(days.clone()).await).await?;
    let teaches = |sender: i64, day: i64| !compromised.contains(&(sender, day));
    let minutes = usual::first_minute_of(day - 1)..minutes.end;
    let at_once = match source {
        Source::Usage => SENDERS,
        // Each statement reads all messages of these minutes.
        Source::Messages { .. } => SENDERS * 128,
    };
    for senders in senders.chunks(at_once) {
        let began = Instant::now();
        let (mut went_through, places) = in_time(store, async |store| {
            Ok(match source {
                Source::Usage => (store.went_through(senders, minutes.clone()).await?, Vec::new()),
                Source::Messages { .. } => (
                    store.sent_by_messages(senders, minutes.clone()).await?,
                    store.places_of_messages(senders, minutes.clone()).await?,
                ),
            })
        })
        .await?;
        went_through.retain(|(sender, minute, _)| teaches(*sender, usual::day_of(*minute)));
        let rows: Vec<DayRow> = went_through
            .chunk_by(|(one, ..), (other, ..)| one == other)
            .filter_map(|of_sender| {
                let mut record = Record::default();
                of_sender.iter().for_each(|(_, minute, sums)| record.add(*minute, *sums));
                let day = record.days().find(|made| made.day == day)?;
                Some(DayRow { ratelimit_id: of_sender.first()?.0, day: *day })
            })
            .collect();
        for some in rows.chunks(SENDERS) {
            in_time(store, async |store| store.note_days(some).await).await?;
        }
        made += rows.len();
        if let Source::Messages { ignored, now } = source {
            let own = |place: &Place| days.clone().all(|day| teaches(place.ratelimit_id, day));
            for some in known(places.into_iter().filter(own), ignored, now).chunks(SENDERS) {
                in_time(store, async |store| store.know(some, now).await).await?;
            }
        }
        if rest > 0 {
            tokio::time::sleep(began.elapsed() * rest).await;
        }
    }
    Ok(made)
}

/// Returns the networks of these places that are not new any more.
fn known(places: impl Iterator<Item = Place>, ignored: &[IpNet], now: i64) -> Vec<SeenRow> {
    let mut seen: BTreeMap<(i64, String), i64> = BTreeMap::new();
    for place in places {
        let Some(address) = network::address(&place.client_address) else { continue };
        if history::is_known(place.first, place.last, now) && !ignored.iter().any(|ignored| ignored.contains(&address))
        {
            let last = seen.entry((place.ratelimit_id, network::place(address).to_string())).or_insert(place.last);
            *last = place.last.max(*last);
        }
    }
    let row = |((ratelimit_id, network), last_seen)| SeenRow { ratelimit_id, network, last_seen };
    seen.into_iter().map(row).collect()
}

async fn in_time<T>(store: &mut Store, step: impl AsyncFnOnce(&mut Store) -> Result<T, Failure>) -> Result<T, Failure> {
    match tokio::time::timeout(TIMEOUT, step(store)).await {
        Ok(done) => done,
        Err(_) => {
            store.abandon();
            Err(Failure::Away(format!("no answer within {} s", TIMEOUT.as_secs())))
        }
    }
}
