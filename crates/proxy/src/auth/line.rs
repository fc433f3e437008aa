//! Who waits to have a password looked at, and how many of one client's. Decisions only.

use std::collections::HashMap;
use std::net::IpAddr;

/// Requests that wait, all clients together. Beyond that they are refused: guesses take no more than a core.
const MOST: usize = 128;
/// Those of one client. Whoever guesses from one address turns away nobody at another.
const MOST_EACH: usize = 32;

/// Whose request it is, where that is known.
pub(super) type Client = Option<IpAddr>;

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: HashMap<Client, usize>,
    all: usize,
}

impl Line {
    /// Whether another request of this client may wait. It does then, until it [leaves](Self::leave).
    pub(super) fn enter(&mut self, client: Client) -> bool {
        let own = self.waiting.get(&client).copied().unwrap_or(0);
        if self.all >= MOST || own >= MOST_EACH {
            return false;
        }
        self.waiting.insert(client, own + 1);
        self.all += 1;
        true
    }

    /// One that waited is gone.
    pub(super) fn leave(&mut self, client: Client) {
        let Some(own) = self.waiting.get_mut(&client) else { return };
        (*own, self.all) = (*own - 1, self.all - 1);
        if *own == 0 {
            self.waiting.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(line: &mut Line, client: Client) -> usize {
        (0..1000).take_while(|_| line.enter(client)).count()
    }

    /// Wrong passwords of one client took all places there were.
    #[test]
    fn no_client_takes_the_places_of_all() {
        let mut line = Line::default();
        let client = |n: u8| Some(IpAddr::from([10, 0, 0, n]));
        assert_eq!(entered(&mut line, client(1)), MOST_EACH);
        assert_eq!(entered(&mut line, None), MOST_EACH);
        assert!(line.enter(client(2)));
        line.leave(client(1));
        assert_eq!(entered(&mut line, client(1)), 1);
        let rest: usize = (3..9).map(|n| entered(&mut line, client(n))).sum();
        assert_eq!(rest, MOST - 2 * MOST_EACH - 1);
        line.leave(client(2));
        assert_eq!(line.waiting.len(), 2 + 2, "who does not wait is not remembered");
    }
}
