"use strict";

const ROWS = 20;
const SHOWN = ["height", "round", "syncing", "peers", "mempool", "block_hash", "state_root", "node_id", "version"];

// Everything is set as text, never as markup.
function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  made.append(...children);
  return made;
}

async function get(path) {
  const answer = await fetch(path);
  return answer.ok ? answer.json() : null;
}

async function showStatus() {
  const status = await get("/v1/status");
  if (!status) return;
  document.getElementById("chain").textContent = status.chain_id;
  const rows = SHOWN.map((name) => {
    const value = element("td", String(status[name]));
    value.className = "id";
    return element("tr", null, element("th", name), value);
  });
  document.getElementById("status").replaceChildren(...rows);
}

function blockRow(header, count) {
  const hash = element("td", header.hash);
  hash.className = "id";
  const time = new Date(header.time_ms).toISOString();
  return element(
    "tr", null, element("td", String(header.height)), element("td", time),
    element("td", String(count)), hash
  );
}

function addBlock(header, count) {
  const body = document.getElementById("blocks");
  body.prepend(blockRow(header, count));
  while (body.children.length > ROWS) body.lastElementChild.remove();
}

async function showBlocks() {
  const page = await get(`/v1/blocks?limit=${ROWS}`);
  if (!page) return null;
  const rows = page.items.map((block) => blockRow(block.header, block.transaction_ids.length));
  document.getElementById("blocks").replaceChildren(...rows);
  return page.items[0].header.height;
}

// Continues behind the last block that is shown, also after a break.
function follow(height) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/v1/events`);
  let cursor = `${height}:0`;
  socket.onopen = () => socket.send(JSON.stringify({ subscribe: ["block"], from: cursor }));
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type !== "block") return;
    cursor = message.cursor;
    addBlock(message.data.header, message.data.transaction_count);
    showStatus();
  };
  socket.onclose = () => setTimeout(() => follow(Number(cursor.split(":")[0])), 2000);
}

async function find(what) {
  if (!/^([0-9]{1,15}|[0-9a-f]{64})$/.test(what)) return null;
  const paths = [`/v1/blocks/${what}`];
  if (what.length === 64) paths.push(`/v1/devices/${what}`, `/v1/organisations/${what}`, `/v1/transactions/${what}`);
  for (const path of paths) {
    const found = await get(path);
    if (found && found.status !== "unknown") return found;
  }
  return null;
}

document.getElementById("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  const found = await find(new FormData(event.target).get("what").trim());
  const view = found ? element("pre", JSON.stringify(found, null, 2)) : element("p", "Nothing found.");
  document.getElementById("found").replaceChildren(view);
});

showStatus();
showBlocks().then((height) => { if (height !== null) follow(height); });
