//! Takes the paths out of a source file.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Something that the walls have an opinion on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A path. `self` and `super` at its start are resolved, so it begins with `crate` or with the name of a crate or of
    /// something that is in scope. The keywords `async` and `await` are paths of one segment.
    Path(Vec<String>),
    /// `#[path = "…"]` on a module.
    PathAttribute,
}

/// A file that can't be parsed.
pub(crate) struct ParseError {
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// What is in a file, outside of `#[cfg(test)]`.
pub(crate) struct Reader {
    /// With the line of each, from 1.
    pub(crate) found: Vec<(usize, Found)>,
    /// Modules that are declared under `#[cfg(test)]` and live in files of their own.
    pub(crate) test_modules: Vec<Vec<String>>,
    /// The module that is being read.
    module: Vec<String>,
}

impl Reader {
    /// Reads a file whose module is `module`.
    pub(crate) fn read(module: &[String], source: &str) -> Result<Self, ParseError> {
        let file = syn::parse_file(source).map_err(|error| ParseError {
            line: error.span().start().line,
            message: error.to_string(),
        })?;
        let mut reader = Self {
            found: Vec::new(),
            test_modules: Vec::new(),
            module: module.to_vec(),
        };
        if !file.attrs.iter().any(is_cfg_test) {
            reader.visit_file(&file);
        }
        Ok(reader)
    }

    fn path(&mut self, span: Span, segments: Vec<String>) {
        let resolved = self.resolve(segments);
        self.found.push((span.start().line, Found::Path(resolved)));
    }

    /// Makes a path that starts with `self` or `super` start with `crate`.
    fn resolve(&self, segments: Vec<String>) -> Vec<String> {
        let climbs = segments
            .iter()
            .take_while(|segment| *segment == "self" || *segment == "super")
            .count();
        if climbs == 0 {
            return segments;
        }
        let up = segments
            .iter()
            .take(climbs)
            .filter(|segment| *segment == "super")
            .count();
        let kept = self.module.len().saturating_sub(up);
        let start = std::iter::once("crate".to_owned()).chain(self.module[..kept].iter().cloned());
        start.chain(segments[climbs..].iter().cloned()).collect()
    }

    fn use_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.use_tree(item, before)),
            syn::UseTree::Name(name) if name.ident == "self" && !before.is_empty() => {
                self.path(name.span(), before.to_vec());
            }
            syn::UseTree::Name(name) => self.path(name.span(), with(&name.ident)),
            syn::UseTree::Rename(rename) if rename.ident == "self" && !before.is_empty() => {
                self.path(rename.span(), before.to_vec());
            }
            syn::UseTree::Rename(rename) => self.path(rename.span(), with(&rename.ident)),
            syn::UseTree::Glob(glob) => self.path(glob.span(), [before, &["*".to_owned()]].concat()),
        }
    }

    /// What a macro is given need not be Rust, but names joined by `::` in it are paths all the same.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut segments: Vec<String> = Vec::new();
        let mut start = Span::call_site();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if segments.is_empty() || colons != 2 {
                        self.end_of_path(&mut segments, start);
                        start = name.span();
                    }
                    segments.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(sign) if sign.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    // `crate::{a, b}`: an import inside a macro.
                    if colons == 2 && group.delimiter() == Delimiter::Brace && !segments.is_empty() {
                        self.group(&segments, group.stream());
                        segments.clear();
                    } else {
                        self.end_of_path(&mut segments, start);
                        self.tokens(group.stream());
                    }
                    colons = 0;
                }
                _ => {
                    self.end_of_path(&mut segments, start);
                    colons = 0;
                }
            }
        }
        self.end_of_path(&mut segments, start);
    }

    fn group(&mut self, before: &[String], tokens: TokenStream) {
        let inside = Self {
            found: Vec::new(),
            test_modules: Vec::new(),
            module: self.module.clone(),
        };
        let mut inside = inside;
        inside.tokens(tokens);
        for (line, found) in inside.found {
            if let Found::Path(path) = found {
                let whole = self.resolve([before, &path].concat());
                self.found.push((line, Found::Path(whole)));
            }
        }
    }

    fn end_of_path(&mut self, segments: &mut Vec<String>, start: Span) {
        if !segments.is_empty() {
            self.path(start, std::mem::take(segments));
        }
    }

    fn keyword(&mut self, span: Span, keyword: &str) {
        self.path(span, vec![keyword.to_owned()]);
    }
}

/// `#[cfg(test)]`, also among other conditions that must all hold.
fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    if !attribute.path().is_ident("cfg") {
        return false;
    }
    let syn::Meta::List(list) = &attribute.meta else {
        return false;
    };
    let condition = list.tokens.to_string().replace(' ', "");
    condition == "test" || condition.starts_with("all(test,")
}

fn attributes_of(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let is_test = attributes_of(item).iter().any(is_cfg_test);
        if let syn::Item::Mod(module) = item
            && is_test
            && module.content.is_none()
        {
            self.test_modules
                .push([&self.module[..], &[module.ident.to_string()]].concat());
        }
        if !is_test {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !function.attrs.iter().any(is_cfg_test) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if let Some(attribute) = module.attrs.iter().find(|attribute| attribute.path().is_ident("path")) {
            self.found.push((attribute.span().start().line, Found::PathAttribute));
        }
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.path(
            path.span(),
            path.segments.iter().map(|segment| segment.ident.to_string()).collect(),
        );
        visit::visit_path(self, path);
    }

    // `pub(crate)` names the root, but imports nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.visit_path(&invocation.path);
        self.tokens(invocation.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(keyword) = &signature.asyncness {
            self.keyword(keyword.span(), "async");
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.keyword(block.span(), "async");
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        if let Some(keyword) = &closure.asyncness {
            self.keyword(keyword.span(), "async");
        }
        visit::visit_expr_closure(self, closure);
    }

    fn visit_expr_await(&mut self, expression: &'ast syn::ExprAwait) {
        self.keyword(expression.await_token.span(), "await");
        visit::visit_expr_await(self, expression);
    }
}
