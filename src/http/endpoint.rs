//! A path and its methods. HEAD goes with GET unless GET changes something, OPTIONS tells what
//! there is, and any other method is answered 405 with the same.

use actix_web::http::{Method, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder};

use super::body::LongestBody;
use super::error::Problem;
use super::openapi::Operation;

/// A path that is being described.
pub struct Endpoint {
    path: String,
    resource: Resource,
    operations: Vec<(&'static str, Operation)>,
    get_has_effects: bool,
}

/// Marks a path whose GET changes something: `caller` refuses it to the cookie of a foreign page.
pub struct GetHasEffects;

impl Endpoint {
    /// Begins with a path; `{name}` in it is a parameter.
    pub fn at(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            resource: web::resource(path),
            operations: Vec::new(),
            get_has_effects: false,
        }
    }

    /// What GET and HEAD do.
    pub fn get<F, Args>(self, operation: Operation, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let mut with_get = self.method("GET", operation, web::get().to(handler.clone()));
        with_get.resource = with_get.resource.route(web::head().to(handler));
        with_get
    }

    /// What GET does where it changes something. There is no HEAD then, since HEAD has no effects,
    /// and a foreign page cannot have its visitor's cookie used for it.
    pub fn get_with_effects<F, Args>(self, operation: Operation, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let with_get = self.method("GET", operation.refused(403, &["forbidden"]), web::get().to(handler));
        let resource = with_get.resource.app_data(GetHasEffects);
        Self { resource, get_has_effects: true, ..with_get }
    }

    /// What POST does.
    pub fn post<F, Args>(self, operation: Operation, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method("POST", operation, web::post().to(handler))
    }

    /// What PUT does.
    pub fn put<F, Args>(self, operation: Operation, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method("PUT", operation, web::put().to(handler))
    }

    /// What PATCH does.
    pub fn patch<F, Args>(self, operation: Operation, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method("PATCH", operation, web::patch().to(handler))
    }

    /// What DELETE does.
    pub fn delete<F, Args>(self, operation: Operation, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method("DELETE", operation, web::delete().to(handler))
    }

    /// Reads bodies up to this many bytes instead of the ordinary limit.
    pub fn longest_body(self, bytes: usize) -> Self {
        Self { resource: self.resource.app_data(LongestBody(bytes)), ..self }
    }

    fn method(mut self, name: &'static str, operation: Operation, route: actix_web::Route) -> Self {
        // A parameter with a control character names nothing (`hygiene::path`).
        let has_parameter = self.path.contains('{');
        let operation = if has_parameter { operation.refused(404, &["not_found"]) } else { operation };
        self.operations.push((name, operation));
        Self { resource: self.resource.route(route), ..self }
    }

    /// The path as the OpenAPI document writes it: without the patterns of parameters.
    #[must_use]
    pub fn documented_path(&self) -> String {
        let mut written = String::new();
        for part in self.path.split_inclusive('}') {
            match part.split_once(':') {
                Some((name, _)) if part.contains('{') => written += &format!("{name}}}"),
                _ => written += part,
            }
        }
        written
    }

    /// What there is at the path, by method.
    #[must_use]
    pub fn operations(&self) -> &[(&'static str, Operation)] {
        &self.operations
    }

    fn allowed(&self) -> String {
        let mut methods = Vec::new();
        for (name, _) in &self.operations {
            methods.push(*name);
            if *name == "GET" && !self.get_has_effects {
                methods.push("HEAD");
            }
        }
        methods.push("OPTIONS");
        methods.join(", ")
    }

    /// Adds the path to the application.
    pub fn register(self, config: &mut ServiceConfig) {
        let allow = self.allowed();
        let options = allow.clone();
        let told = move || {
            let answer = HttpResponse::NoContent().insert_header((header::ALLOW, options.as_str())).finish();
            async { answer }
        };
        let refused = move || {
            let problem = Problem::method_not_allowed(allow.clone());
            async { Err::<HttpResponse, _>(problem) }
        };
        let resource = self.resource.route(web::method(Method::OPTIONS).to(told));
        config.service(resource.default_service(web::to(refused)));
    }
}
