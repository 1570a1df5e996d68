//! What an administrator's client reads and does.

use serde_json::json;

use super::{Flag, List, Number, Scene, Text, TextOrNull, Walk, clients, expect, expect_members, list, text};

pub async fn stage(walk: &Walk, scene: &Scene) {
    let email = Scene::account(&scene.one, "vera", "admin").await;
    let mut browser = Scene::sign_in(&scene.one, &email).await.0;
    walk.step(
        "roles: which there are",
        clients(
            "GET `/users/roles` is an array of `{id, name, description, isDefault}`; `isDefault` is true for the \
             roles that every node has.",
        ),
        async {
            let roles = browser.get("/users/roles").await.body(200);
            let all = roles.as_array().unwrap_or_else(|| panic!("expected an array, seen {roles}"));
            for id in ["user", "alpha", "admin"] {
                let role = all.iter().find(|role| role["id"] == id);
                let role = role.unwrap_or_else(|| panic!("expected the role {id}, seen {roles}"));
                let members =
                    [("name", Text), ("description", TextOrNull), ("isDefault", Flag)];
                expect_members(role, &members);
                expect("isDefault", &role["isDefault"], true);
            }
        },
    )
    .await;
    walk.step(
        "roles: which permissions there are",
        clients("GET `/users/permissions` is an array of `{id, name}`."),
        async {
            let permissions = browser.get("/users/permissions").await.body(200);
            let all = permissions.as_array().cloned().unwrap_or_default();
            assert!(all.iter().any(|one| one["id"] == "users:read"), "seen {permissions}");
            all.iter().for_each(|one| expect_members(one, &[("id", Text), ("name", Text)]));
        },
    )
    .await;
    walk.step(
        "roles: an account is made with roles",
        clients("POST `/users/` takes `roles: [id]` from an existing client, which may leave the names out."),
        async {
            let body = json!({ "email": "new@people.example", "roles": ["alpha"] });
            let user = browser.post("/users/", body).await.body(200);
            expect("email", &user["email"], "new@people.example");
            expect("its role", &list(&user, "roles")[0]["id"], "alpha");
        },
    )
    .await;
    walk.step("roles: all users", clients("GET `/users/` answers `{data, total, page, limit}`."), async {
        let seen = browser.get("/users/?q=new%40people").await.body(200);
        let members = [("data", List), ("total", Number), ("page", Number), ("limit", Number)];
        expect_members(&seen, &members);
        expect("total", &seen["total"], 1);
        assert_eq!(text(&list(&seen, "data")[0], "email"), "new@people.example");
    })
    .await;
}
