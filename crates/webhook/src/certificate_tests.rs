use super::*;

const DAY: Duration = Duration::from_hours(24);

fn policy() -> Policy {
    Policy { name: "outrigger-webhook.outrigger.svc".into(), lifetime: 30 * DAY }
}

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
}

fn create() -> Material {
    Material::create(&policy(), start()).unwrap()
}

fn refusal(result: Result<(), X509Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn new_certificate_is_accepted_for_its_name_and_its_time_only() {
    let material = create();
    let (bundle, name) = (material.bundle(), policy().name);
    material.verify(&bundle, &name, start()).unwrap();
    material.verify(&bundle, &name, start() - Duration::from_secs(200)).unwrap();
    assert!(refusal(material.verify(&bundle, &name, start() + 31 * DAY)).contains("expired"));
    assert!(refusal(material.verify(&bundle, "other.outrigger.svc", start())).contains("not valid for name"));
    let stranger = create().bundle();
    assert!(material.verify(&stranger, &name, start()).is_err());
    assert!(material.verify(b"", &name, start()).is_err());
}

#[test]
fn secret_is_read_back_as_it_was_written() {
    let material = create();
    let again = Material::parse(&material.data()).unwrap();
    assert_eq!(again.data(), material.data());
    assert_eq!(again.expiry(), start() + 30 * DAY);
}

#[test]
fn what_is_wrong_with_a_secret_is_named() {
    let (good, other) = (create().data(), create().data());
    let message = |data: &BTreeMap<String, ByteString>| Material::parse(data).err().unwrap().to_string();
    assert_eq!(message(&BTreeMap::new()), "ca.crt is missing");
    for key in ["ca.crt", "ca.key", "tls.crt", "tls.key"] {
        let mut data = good.clone();
        data.insert(key.into(), ByteString(b"garbage \xff".to_vec()));
        assert_eq!(message(&data), format!("{key} is not PEM of the right kind"));
    }
    for (key, certificate) in [("ca.key", "ca.crt"), ("tls.key", "tls.crt")] {
        let mut data = good.clone();
        data.insert(key.into(), other[key].clone());
        assert_eq!(message(&data), format!("{key} does not belong to {certificate}"));
    }
}

#[test]
fn renewal_is_due_after_two_thirds_of_the_lifetime() {
    let material = create();
    let need = |now| material.need(&material.bundle(), &policy(), now);
    assert_eq!(need(start()), Need::NothingUntil(start() + 20 * DAY));
    assert_eq!(need(start() + 19 * DAY), Need::NothingUntil(start() + 20 * DAY));
    assert_eq!(need(start() + 20 * DAY), Need::Certificate);
    assert_eq!(need(start() + 40 * DAY), Need::Certificate);
}

#[test]
fn other_name_renews_at_once() {
    let material = create();
    let policy = Policy { name: "renamed.outrigger.svc".into(), ..policy() };
    assert_eq!(material.need(&material.bundle(), &policy, start()), Need::Certificate);
}

/// The old replicas of an upgrade found the new ones' certificate too long, those the old one's too short, and each
/// replaced the other's.
#[test]
fn other_lifetime_counts_from_the_next_renewal_on() {
    let (short, long) = (Policy { lifetime: Duration::from_secs(30), ..policy() }, policy());
    for (theirs, ours) in [(&short, &long), (&long, &short)] {
        let material = Material::create(theirs, start()).unwrap();
        let need = |now| material.need(&material.bundle(), ours, now);
        let renewal = start() + theirs.lifetime / 3 * 2;
        assert_eq!(need(start()), Need::NothingUntil(renewal));
        assert_eq!(need(renewal), Need::Certificate);
        let renewed = material.renewed(Need::Certificate, ours, renewal).unwrap();
        assert_eq!(renewed.expiry(), renewal + ours.lifetime);
        assert!(matches!(renewed.need(&renewed.bundle(), theirs, renewal), Need::NothingUntil(_)));
    }
}

#[test]
fn renewal_keeps_the_authority_and_changes_certificate_and_key() {
    let old = create().data();
    let later = start() + 20 * DAY;
    let new = Material::parse(&old).unwrap().renewed(Need::Certificate, &policy(), later).unwrap();
    assert_eq!(new.expiry(), later + 30 * DAY);
    new.verify(&old["ca.crt"].0, &policy().name, later).unwrap();
    let new = new.data();
    assert_eq!((&new["ca.crt"], &new["ca.key"]), (&old["ca.crt"], &old["ca.key"]));
    assert_ne!(new["tls.key"], old["tls.key"]);
}

/// An API server accepts the served certificate in every state between the old authority and the new one.
#[test]
fn change_of_authority_overlaps() {
    let due = start() + AUTHORITY_LIFETIME.mul_f64(0.67);
    let policy = policy();
    let old = create().renewed(Need::Certificate, &policy, due).unwrap();
    let old_bundle = old.bundle();
    assert_eq!(old.need(&old_bundle, &policy, due), Need::Authority);

    let both = old.renewed(Need::Authority, &policy, due).unwrap();
    // The old certificate is served on, and fits the bundle before and after it is written.
    for bundle in [&old_bundle, &both.bundle()] {
        both.verify(bundle, &policy.name, due).unwrap();
    }
    let wait = Need::NothingUntil(due + AUTHORITY_SETTLES);
    assert_eq!(both.need(&both.bundle(), &policy, due), wait);

    let settled = due + AUTHORITY_SETTLES;
    assert_eq!(both.need(&both.bundle(), &policy, settled), Need::Certificate);
    let bundle = both.bundle();
    let new = both.renewed(Need::Certificate, &policy, settled).unwrap();
    new.verify(&bundle, &policy.name, settled).unwrap();
    assert!(new.verify(&old_bundle, &policy.name, settled).is_err(), "it is signed by the new authority");
    assert!(matches!(new.need(&bundle, &policy, settled), Need::NothingUntil(_)));
}

#[test]
fn authorities_of_a_lost_secret_stay_in_the_bundle_for_one_settle_time() {
    let (lost, new) = (create(), create());
    let ended = Material::create(&policy(), start() - AUTHORITY_LIFETIME).unwrap();
    let present = [&lost.bundle()[..], b"garbage", &ended.bundle()].map(|pem| ByteString(pem.to_vec()));
    let bundle = new.bundle_over(&present, start());
    assert_eq!(bundle, [new.bundle(), lost.bundle()].concat(), "what has ended goes at once");
    for served in [&new, &lost] {
        served.verify(&bundle, &policy().name, start()).unwrap();
    }
    let written = [ByteString(bundle.clone()), ByteString(bundle.clone())];
    assert_eq!(new.bundle_over(&written, start()), bundle, "nothing is there twice");
    assert_eq!(new.bundle_over(&written, start() + AUTHORITY_SETTLES), new.bundle());
}

#[test]
fn authority_that_has_ended_is_dropped_at_the_next_change() {
    let later = start() + AUTHORITY_LIFETIME + DAY;
    let material = create().renewed(Need::Authority, &policy(), later).unwrap();
    assert_eq!(certificates(&material.bundle()).unwrap().len(), 1);
    assert_eq!(material.need(&material.bundle(), &policy(), later), Need::Certificate);
}
