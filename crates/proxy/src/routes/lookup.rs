//! From a request to its route, on the worker.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::method::Method;
use crate::request::Request;
use crate::request_target;
use crate::routes::route::{AllRoutes, Ended, Route};
use crate::routes::template;

/// Routes of a port.
const MOST: usize = 100;

/// How many there may be before a path that does not exist makes no more: who looks for holes asks for hundreds.
const MOST_WITH_MISSING: usize = 20;

/// Paths that a port knows without looking at them letter by letter.
const KNOWN_PATHS: usize = 64;

/// Where a request's figures go.
#[derive(Debug)]
pub(crate) enum Place {
    /// To the route of this number.
    Known(usize),
    /// To one of its own, if there may be one more, with this template.
    New(Box<str>),
}

impl Place {
    /// Of what has no route of its own.
    pub(crate) const OTHER: Self = Self::Known(0);
}

/// The worker's own way to the routes of a port. A request whose path came before, letter by letter, costs a hash of it;
/// others are taken apart, without an allocation.
#[derive(Debug)]
pub(crate) struct WorkersRoutes {
    /// As in [`AllRoutes`].
    routes: RefCell<Vec<Arc<Route>>>,
    /// Of their methods and templates. Two with the same hash would be one: once in 2 to the power of 64 pairs.
    hashes: RefCell<Vec<u64>>,
    /// Hashes of methods and paths with the number of their route. Only of paths without ids: there are few of them.
    paths: [Cell<(u64, usize)>; KNOWN_PATHS],
    template: RefCell<Vec<u8>>,
    /// Seeded anew in each process, so that no client can make paths that push each other out.
    hasher: RandomState,
}

impl WorkersRoutes {
    pub(crate) fn new(all: &AllRoutes) -> Self {
        let routes = Self {
            routes: RefCell::default(),
            hashes: RefCell::default(),
            paths: [const { Cell::new((0, 0)) }; KNOWN_PATHS],
            template: RefCell::default(),
            hasher: RandomState::default(),
        };
        routes.learn(all);
        routes
    }

    /// Finds the place of a request.
    pub(crate) fn find(&self, request: &Request<'_>) -> Place {
        let path = request_target::path(request.target);
        let hash = self.hash(request.method, path);
        #[expect(clippy::cast_possible_truncation, reason = "the lower bits are what is wanted")]
        let known = &self.paths[hash as usize % KNOWN_PATHS];
        if known.get().0 == hash {
            return Place::Known(known.get().1);
        }
        let mut template = self.template.borrow_mut();
        if !template::write(path, &mut template) {
            return Place::OTHER;
        }
        let of_template = self.hash(request.method, &template);
        if let Some(number) = self.hashes.borrow().iter().position(|known| *known == of_template) {
            if of_template == hash {
                known.set((hash, number));
            }
            return Place::Known(number);
        }
        match str::from_utf8(&template) {
            Ok(template) if self.has_room_for(MOST) => Place::New(template.into()),
            _ => Place::OTHER,
        }
    }

    /// Counts a request that has ended. Returns the number of its route.
    pub(crate) fn observe(&self, all: &AllRoutes, method: Method, place: &Place, ended: &Ended) -> usize {
        let number = match place {
            Place::Known(number) => *number,
            Place::New(template) => {
                let most = if ended.code == 404 { MOST_WITH_MISSING } else { MOST };
                if self.has_room_for(most) {
                    let number = all.of(method, template, most);
                    self.learn(all);
                    number
                } else {
                    0
                }
            }
        };
        self.routes.borrow()[number].observe(ended);
        number
    }

    pub(crate) fn route(&self, number: usize) -> Arc<Route> {
        Arc::clone(&self.routes.borrow()[number])
    }

    /// Beside the first, which is for all others.
    fn has_room_for(&self, most: usize) -> bool {
        self.routes.borrow().len() <= most
    }

    fn learn(&self, all: &AllRoutes) {
        let (mut routes, mut hashes) = (self.routes.borrow_mut(), self.hashes.borrow_mut());
        for route in all.all().into_iter().skip(routes.len()) {
            hashes.push(self.hash(route.method, route.path.as_bytes()));
            routes.push(route);
        }
    }

    fn hash(&self, method: Method, path: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(path);
        hasher.write_u8(method as u8);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reason::Reason;
    use crate::request::{Headers, Version};

    fn ask(workers: &WorkersRoutes, all: &AllRoutes, method: Method, target: &str, code: u16) {
        let request = Request {
            version: Version::Http11,
            method,
            method_name: method.label().as_bytes(),
            target: target.as_bytes(),
            authority: None,
            headers: Headers::Lines(b""),
        };
        let ended = Ended {
            code,
            reason: Reason::None,
            duration: Duration::from_millis(1),
            request_body_bytes: 0,
            response_body_bytes: 1,
        };
        workers.observe(all, method, &workers.find(&request), &ended);
    }

    fn counted(all: &AllRoutes) -> Vec<(String, u64)> {
        let all = all.all().into_iter();
        let counted = all.map(|route| {
            let name = format!("{} {}", route.method.label(), route.path);
            (name, route.durations.snapshot().count())
        });
        counted.filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn paths_are_counted_by_their_template_and_method() {
        let all = AllRoutes::default();
        let workers = WorkersRoutes::new(&all);
        for _ in 0..3 {
            for target in ["/users/1", "/users/2?x=y", "/about", "http://a/about"] {
                ask(&workers, &all, Method::Get, target, 200);
            }
            ask(&workers, &all, Method::Post, "/about", 500);
        }
        // As after a reload.
        ask(&WorkersRoutes::new(&all), &all, Method::Get, "/users/3", 200);
        let wanted = [("GET /users/{id}", 7), ("GET /about", 6), ("POST /about", 3)];
        assert_eq!(counted(&all), wanted.map(|(route, count)| (route.to_owned(), count)));
        assert_eq!(all.all()[3].codes().collect::<Vec<_>>(), [(500, 3)]);
    }

    #[test]
    fn routes_are_bounded_and_no_request_is_lost() {
        let all = AllRoutes::default();
        let workers = WorkersRoutes::new(&all);
        let word = |number: usize| -> String {
            number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'g')).collect()
        };
        for number in 0..1000 {
            ask(&workers, &all, Method::Get, &format!("/{}", word(number)), 404);
        }
        assert_eq!(all.all().len(), 1 + MOST_WITH_MISSING);
        for number in 1000..2000 {
            ask(&workers, &all, Method::Get, &format!("/{}", word(number)), 200);
        }
        let counted = counted(&all);
        assert_eq!(counted.len(), 1 + MOST);
        assert_eq!(counted[0], ("_OTHER _OTHER".to_owned(), 2000 - MOST as u64));
        assert_eq!(counted.iter().map(|(_, count)| count).sum::<u64>(), 2000);
    }

    #[test]
    fn what_is_no_text_has_no_route() {
        let all = AllRoutes::default();
        let workers = WorkersRoutes::new(&all);
        let request = Request {
            version: Version::Http11,
            method: Method::Get,
            method_name: b"GET",
            target: b"/\xff",
            authority: None,
            headers: Headers::Lines(b""),
        };
        assert!(matches!(workers.find(&request), Place::Known(0)));
    }
}
