//! The document's part on `/users`.

use super::operation::Operation;
use super::sessions::{email, onboarding_completed_at, roles};
use super::shape::{Shape, id, list, number, object, text, time, truth, word};

const TAG: &str = "Users and roles";

fn members() -> Vec<(&'static str, Shape)> {
    vec![
        ("id", id()),
        ("email", text("alice@people.example")),
        ("firstName", text("Alice").or_null()),
        ("lastName", text("Example").or_null()),
        ("alias", text("alice").or_null()),
        ("picture", text("https://people.example/alice.png").here_null()),
        ("onboardingCompletedAt", onboarding_completed_at()),
        ("createdAt", time()),
        ("roles", roles()),
    ]
}

/// A page of a listing.
pub fn page_of(row: Shape) -> Shape {
    object(vec![
        ("data", list(row)),
        ("total", number(1).from(0).described("rows on all pages")),
        ("page", number(1).from(1)),
        ("limit", number(25).from(1).to(100)),
    ])
}

pub fn list_users() -> Operation {
    let row = object(members()).and(vec![("sessionCount", number(2).from(0))]).named("ListedUser");
    Operation::new(TAG, "listUsers", "Everybody's accounts", "Page by page, oldest first.")
        .permitted("users:read")
        .paged()
        .query("q", "only accounts whose address, name or alias holds this text", text("alice").up_to(200))
        .answer(200, "A page.", page_of(row))
}

pub fn create() -> Operation {
    let name = |example| text(example).at_least(1).up_to(200);
    Operation::new(
        TAG,
        "createUser",
        "Make an account",
        "Nobody gives a role above their own. Existing clients send `roles` instead of `role`, and may leave the names out then.",
    )
    .permitted("users:create")
    .body(object(vec![
        ("firstName", name("Alice")),
        ("lastName", name("Example")),
        ("email", email()),
        ("picture", text("https://people.example/alice.png").at_least(1).up_to(2000).optional()),
        ("role", word(&["user", "alpha", "admin"]).optional()),
    ]))
    .answer(200, "The account.", object(members()).named("User"))
    .refused(400, &["unknown_role"])
    .refused(409, &["email_taken"])
}

pub fn check_alias() -> Operation {
    Operation::new(
        TAG,
        "checkAlias",
        "Whether an alias is free",
        "False for one that breaks the grammar, true for your own.",
    )
    .signed_in()
    .query("alias", "the alias", text("alice"))
    .answer(200, "Whether you could have it.", object(vec![("available", truth(true))]))
}

pub fn all_roles() -> Operation {
    let role = object(vec![
        ("id", text("user")),
        ("name", text("User")),
        ("description", text("Everyone with an account")),
        ("isDefault", truth(true).described("it came with the node, as every role has")),
    ]);
    Operation::new(TAG, "listRoles", "All roles", "Lowest first.")
        .permitted("roles:read")
        .answer_bare_list("The roles.", role.named("Role"))
}

pub fn all_permissions() -> Operation {
    let permission = object(vec![("id", text("users:read")), ("name", text("See users"))]);
    Operation::new(TAG, "listPermissions", "All permissions", "What roles are made of.")
        .permitted("permissions:read")
        .answer_bare_list("The permissions.", permission.named("Permission"))
}
