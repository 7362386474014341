"use strict";

// Everything is set as text, never as markup.
function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  made.append(...children);
  return made;
}

function json(value) {
  return element("pre", JSON.stringify(value, null, 2));
}

function nameOf(schema) {
  return schema.$ref ? schema.$ref.split("/").pop() : null;
}

function schemaView(schema) {
  const name = nameOf(schema);
  if (!name) return json(schema);
  const link = element("a", name);
  link.href = "#schema-" + name;
  return element("p", "Schema ", link);
}

function contentView(title, content) {
  return Object.entries(content || {}).map(([media, { schema }]) =>
    element("details", null, element("summary", `${title} · ${media}`), schemaView(schema))
  );
}

function routeView(path, method, operation) {
  const summary = element(
    "summary", null, element("b", method.toUpperCase()), element("code", path), ` ${operation.summary}`
  );
  const view = element("details", null, summary);
  if (operation.parameters.length) {
    const rows = operation.parameters.map((parameter) =>
      element(
        "tr", null, element("td", parameter.name), element("td", parameter.in),
        element("td", JSON.stringify(parameter.schema))
      )
    );
    view.append(element("table", null, ...rows));
  }
  view.append(...contentView("Takes", operation.requestBody && operation.requestBody.content));
  for (const [status, answer] of Object.entries(operation.responses)) {
    view.append(...contentView(`${status} ${answer.description}`, answer.content));
  }
  return view;
}

function codesView(document_) {
  const codes = new Map();
  for (const methods of Object.values(document_.paths)) {
    for (const operation of Object.values(methods)) {
      for (const [status, answer] of Object.entries(operation.responses)) {
        if (status < 400) continue;
        for (const code of answer.description.split(", ")) codes.set(code, status);
      }
    }
  }
  const rows = [...codes].sort().map(([code, status]) => {
    const row = element("tr", null, element("td", code), element("td", status));
    row.id = code;
    return row;
  });
  return [element("h2", "Codes of problems"), element("table", null, ...rows)];
}

function show(document_) {
  const byTag = new Map();
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const views = byTag.get(operation.tags[0]) || [];
      views.push(routeView(path, method, operation));
      byTag.set(operation.tags[0], views);
    }
  }
  const routes = document.getElementById("routes");
  routes.replaceChildren();
  for (const [tag, views] of byTag) routes.append(element("h2", tag), ...views);
  routes.append(...codesView(document_));
  const schemas = document.getElementById("schemas");
  for (const [name, schema] of Object.entries(document_.components.schemas)) {
    const view = element("details", null, element("summary", name), json(schema));
    view.id = "schema-" + name;
    schemas.append(view);
  }
}

// A link to a folded entry unfolds it.
addEventListener("hashchange", () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target && "open" in target) target.open = true;
});

fetch("/openapi.json")
  .then((answer) => answer.json())
  .then(show)
  .catch((error) => {
    document.getElementById("routes").textContent = `The interface could not be read: ${error}`;
  });
