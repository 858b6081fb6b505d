//! Two controllers that both believe to lead.

use cloison::api::SecretEncryption;
use cloison::api::encryption_status::Order;
use cloison::cluster::orders;
use kube::Api;

use super::world::World;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_controllers_that_order_over_one_version_one_is_refused() {
    let world = World::start(1).await;
    let client = world.cluster.operator().await;
    // The controller follows the object, and reads it nowhere one by one.
    let all: Api<SecretEncryption> = Api::all(world.cluster.admin());
    let order = |number: i64, retire: Vec<i64>| Order {
        number,
        retire,
        ..Order::default()
    };
    let mut seen = all.get("default").await.unwrap();
    for round in 1..=5 {
        // One mints, the other retires: the order that stands is of one of them, whole.
        let (one, other) = (order(2 * round, vec![1]), order(2 * round + 1, Vec::new()));
        let both = tokio::join!(
            orders::write(&client, &seen, &one),
            orders::write(&client, &seen, &other)
        );
        let (won, lost) = match both {
            (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
            both => panic!("{both:?}"),
        };
        assert!(
            matches!(&lost, kube::Error::Api(status) if status.code == 409),
            "{lost:?}"
        );
        let stands = all.get("default").await.unwrap();
        let stands_order = stands.status.as_ref().unwrap().order.clone().unwrap();
        assert!(stands_order == one || stands_order == other, "{stands_order:?}");
        assert_eq!(won.status.unwrap().order.unwrap(), stands_order);
        seen = stands;
    }
    // Neither is one that was made anew meanwhile.
    let gone = seen.clone();
    all.delete("default", &Default::default()).await.unwrap();
    let spec = json!({"apiVersion": CLOISON, "kind": "SecretEncryption", "metadata": {"name": "default"}, "spec": {}});
    apply(&world.cluster.admin(), spec).await;
    let late = orders::write(&client, &gone, &order(99, Vec::new())).await.unwrap_err();
    assert!(
        matches!(&late, kube::Error::Api(status) if status.code == 409),
        "{late:?}"
    );
}
