"use strict";
// The list of all rows and the review of suspects. Names from the data only ever become text, never markup.

const HEIGHT = 40; // of a row, as in the style sheet
const one = (selector) => document.querySelector(selector);
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]/gu;
const visible = (text) =>
  text.replace(HIDDEN, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
const figure = (number) => (number === null ? "" : number.toFixed(2));
const alphabet = new Intl.Collator("en", { numeric: true });
const count = (number) => number.toLocaleString("en");

let names = [];
let rows = []; // all, the most suspicious first
let shown = []; // those found, in the order asked for
let sorted = { column: "rank", down: false };
let cursor = -1; // place in shown
let queue = []; // rows under review
let place = 0; // in the queue
let unsaved = false;
let before = new Map(); // id: what the review said that this audit was made with
const pictures = new Map(Array.from(document.images, (image) => [Number(image.dataset.id), image]));
const storage = `cmw-review-${one("#packed").dataset.key}`;

// --- unpack

async function unpack() {
  const bytes = Uint8Array.from(atob(one("#packed").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const table = await new Response(stream).json();
  names = table.names;
  rows = table.id.map((id, i) => {
    const row = { id, verdict: "", label: "" };
    for (const column of ["path", "rank", "margin", "loss", "weight", "in_list", "sampled", "content"]) row[column] = table[column][i];
    row.path ||= `row ${id}`;
    row.given = names[table.given[i]];
    row.suggested = names[table.suggested[i]];
    row.why = table.reasons[table.why[i]];
    row.text = [row.path, row.given, row.suggested, row.why].join("\n").toLowerCase();
    return row;
  });
  before = new Map(table.before.map((row) => [row.id, row]));
}

// --- the list

const CELLS = [
  ["number", (row) => count(row.rank)],
  ["name", (row) => visible(row.path)],
  ["", (row) => visible(row.given)],
  ["", (row) => (row.suggested === row.given ? "" : visible(row.suggested))],
  ["number wide", (row) => figure(row.margin)],
  ["number wide", (row) => figure(row.loss)],
  ["number wide", (row) => figure(row.weight)],
  ["why wide", (row) => visible(row.why)],
  ["mark", (row) => row.verdict],
];

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function line(row, index) {
  const tr = element("tr", row.in_list ? "listed" : "");
  tr.dataset.place = index;
  tr.setAttribute("aria-rowindex", index + 2);
  if (index === cursor) tr.setAttribute("aria-selected", "true");
  for (const [className, text] of CELLS) {
    const td = element("td", className);
    const name = element("bdi", "", text(row));
    td.title = name.textContent;
    td.append(name);
    tr.append(td);
  }
  const picture = pictures.get(row.id);
  if (picture) tr.children[1].prepend(copied(picture));
  return tr;
}

function copied(picture) {
  const image = element("img");
  image.alt = "";
  image.src = picture.src;
  return image;
}

function gap(height) {
  const tr = element("tr", "gap");
  tr.style.height = `${height}px`;
  return tr;
}

function draw() {
  const box = one("#box");
  const first = Math.max(0, Math.floor(box.scrollTop / HEIGHT) - 10);
  const last = Math.min(shown.length, first + Math.ceil(box.clientHeight / HEIGHT) + 20);
  const lines = shown.slice(first, last).map((row, i) => line(row, first + i));
  one("#rows tbody").replaceChildren(gap(first * HEIGHT), ...lines, gap((shown.length - last) * HEIGHT));
}

function compare(a, b) {
  const [x, y] = [a[sorted.column], b[sorted.column]];
  if (x === y) return a.rank - b.rank;
  if (x === null || x === "") return 1; // what is missing comes last either way
  if (y === null || y === "") return -1;
  const order = typeof x === "number" ? x - y : alphabet.compare(x, y);
  return (sorted.down ? -order : order) || a.rank - b.rank;
}

function find() {
  const wanted = one("#search").value.trim().toLowerCase();
  const only = one("#only").checked;
  shown = rows.filter((row) => (!only || row.in_list) && row.text.includes(wanted)).sort(compare);
  cursor = -1;
  one("#found").textContent = `${count(shown.length)} of ${count(rows.length)} rows`;
  one("#rows").setAttribute("aria-rowcount", shown.length + 1);
  one("#box").scrollTop = 0;
  for (const button of document.querySelectorAll("[data-sort]")) {
    const mine = button.dataset.sort === sorted.column;
    button.parentElement.setAttribute("aria-sort", mine ? (sorted.down ? "descending" : "ascending") : "none");
  }
  draw();
}

function sort(column) {
  const numbers = ["margin", "loss", "weight"].includes(column);
  sorted = { column, down: sorted.column === column ? !sorted.down : numbers };
  find();
}

function move(by) {
  const box = one("#box");
  cursor = Math.min(shown.length - 1, Math.max(0, cursor + by));
  const top = cursor * HEIGHT;
  if (top < box.scrollTop) box.scrollTop = top;
  if (top + 2 * HEIGHT > box.scrollTop + box.clientHeight) box.scrollTop = top + 2 * HEIGHT - box.clientHeight;
  draw();
}

// --- the review

function listed() {
  const list = rows.filter((row) => row.in_list || row.sampled);
  return [...list.filter((row) => row.sampled), ...list.filter((row) => !row.sampled)];
}

function review(wanted, start) {
  if (!wanted.length) return;
  queue = wanted;
  place = start;
  if (!one("#review").open) one("#review").showModal();
  ask();
}

function ask() {
  const row = queue[place];
  const looked = queue.filter((other) => other.verdict).length;
  one("#review-title").textContent = `${count(place + 1)} of ${count(queue.length)}${row.sampled ? ", drawn at random" : ""}`;
  one("#bar").max = queue.length;
  one("#bar").value = looked;
  const picture = pictures.get(row.id);
  const none = pictures.size ? [element("p", "none", "This page holds no picture of it.")] : [];
  one("#picture").replaceChildren(...(picture ? [copied(picture)] : none));
  one("#given").textContent = visible(row.given);
  one("#path").textContent = visible(row.path);
  one("#reason").textContent = visible(row.why);
  choices(row);
  const said = { y: "Marked wrong", n: "Marked right as given", skip: "Skipped" }[row.verdict] || "Not marked yet";
  one("#mark").textContent = `${said}. ${count(looked)} marked.`;
  for (const button of document.querySelectorAll("[data-verdict]"))
    button.setAttribute("aria-pressed", String(button.dataset.verdict === row.verdict));
}

function choices(row) {
  const none = row.suggested === row.given && !row.label;
  const options = names.flatMap((name, i) => (name === row.given ? [] : [option(i, visible(name))]));
  one("#label").replaceChildren(...(none ? [option("", "choose the right label")] : []), ...options);
  one("#label").value = none ? "" : names.indexOf(row.label || row.suggested);
}

function option(value, text) {
  const made = element("option", "", text);
  made.value = value;
  return made;
}

function mark(verdict) {
  const row = queue[place];
  const label = one("#label").value;
  if (verdict === "y" && label === "") {
    one("#mark").textContent = "Choose the right label first.";
    one("#label").focus();
    return;
  }
  row.verdict = verdict;
  row.label = verdict === "y" ? names[Number(label)] : "";
  unsaved = true;
  remember();
  if (place + 1 < queue.length) place += 1;
  ask();
  tell();
  if (queue.every((other) => other.verdict)) one("#mark").textContent = "All of them are marked. Save reviewed.csv.";
}

function back() {
  if (place > 0) place -= 1;
  ask();
}

function tell() {
  const marked = rows.filter((row) => row.verdict);
  const drawn = rows.filter((row) => row.sampled);
  const parts = marked.length ? [`${count(marked.length)} marked`] : [];
  if (drawn.length) parts.push(`${drawn.filter((row) => row.verdict).length} of the ${drawn.length} drawn at random`);
  if (before.size) parts.push(`${count(before.size)} of the review before are kept`);
  one("#progress").textContent = parts.join(", ");
  for (const button of document.querySelectorAll(".save")) button.disabled = !marked.length;
}

// What is marked survives a closed tab where the browser lets a page remember anything.
function remember() {
  const marks = rows.filter((row) => row.verdict).map((row) => [row.id, row.verdict, row.label]);
  try { localStorage.setItem(storage, JSON.stringify(marks)); } catch { /* then it does not */ }
}

function recall() {
  const byId = new Map(rows.map((row) => [row.id, row]));
  try {
    for (const [id, verdict, label] of JSON.parse(localStorage.getItem(storage) || "[]")) Object.assign(byId.get(id), { verdict, label });
  } catch { /* nothing to recall */ }
}

const quoted = (text) => (/[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

// The given label of a row that was reviewed before is the one that the review gave it.
function whole(row) {
  const earlier = before.get(row.id);
  if (!earlier || row.verdict === "skip") return earlier || row;
  const right = row.verdict === "y" ? row.label : row.given;
  return { ...earlier, ...(right === earlier.given ? { verdict: "n", label: "" } : { verdict: "y", label: right }) };
}

function csv() {
  const marked = rows.filter((row) => row.verdict || row.sampled).map(whole);
  const again = new Set(marked.map((row) => row.id));
  const kept = [...marked, ...[...before.values()].filter((row) => !again.has(row.id))];
  const lines = kept.map((row) => [row.id, row.verdict, quoted(row.label), row.sampled ? "True" : "False", quoted(row.given), row.content].join(","));
  return ["id,verdict,label,sampled,given,content", ...lines, ""].join("\n");
}

function save() {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "reviewed.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  unsaved = false;
}

// --- keys and clicks

const typing = (event) => event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey;

function startReview() {
  const list = listed();
  review(list, Math.max(0, list.findIndex((row) => !row.verdict)));
}

function reviewPair(like, first) {
  const list = listed().filter((row) => row.given === like.given && row.suggested === like.suggested);
  review(list, Math.max(0, list.findIndex((row) => (first ? row === first : !row.verdict))));
}

const REVIEW_KEYS = {
  y: () => mark("y"),
  n: () => mark("n"),
  s: () => mark("skip"),
  ArrowLeft: back,
  Backspace: back,
};
const BOX_KEYS = {
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  PageDown: () => move(10),
  PageUp: () => move(-10),
  Home: () => move(-Infinity),
  End: () => move(Infinity),
  Enter: () => cursor >= 0 && review(shown.slice(), cursor),
};

function obey(keys, event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (typing(event) || !Object.hasOwn(keys, key)) return;
  event.preventDefault();
  event.stopPropagation();
  keys[key]();
}

function listen() {
  one("#start").addEventListener("click", startReview);
  document.addEventListener("keydown", (event) => one("#review").open || obey({ r: startReview }, event));
  one("#review").addEventListener("keydown", (event) => obey(REVIEW_KEYS, event));
  one("#review").addEventListener("close", draw);
  one("#close").addEventListener("click", () => one("#review").close());
  one("#back").addEventListener("click", back);
  // A label chosen with the mouse leaves the keys to the review again, not to the list of labels.
  let pointed = false;
  one("#label").addEventListener("pointerdown", () => (pointed = true));
  one("#label").addEventListener("change", () => pointed && one("[data-verdict]").focus());
  one("#label").addEventListener("blur", () => (pointed = false));
  for (const button of document.querySelectorAll("[data-verdict]"))
    button.addEventListener("click", () => mark(button.dataset.verdict));
  for (const button of document.querySelectorAll(".save")) button.addEventListener("click", save);
  for (const button of document.querySelectorAll("[data-sort]"))
    button.addEventListener("click", () => sort(button.dataset.sort));
  one("#search").addEventListener("input", find);
  one("#only").addEventListener("change", find);
  one("#box").addEventListener("scroll", draw, { passive: true });
  one("#box").addEventListener("keydown", (event) => event.target === one("#box") && obey(BOX_KEYS, event));
  one("#rows tbody").addEventListener("click", (event) => {
    const tr = event.target.closest("[data-place]");
    if (tr) review(shown.slice(), (cursor = Number(tr.dataset.place)));
  });
  for (const button of document.querySelectorAll("[data-like]"))
    button.addEventListener("click", () => reviewPair(rows.find((row) => row.id === Number(button.dataset.like))));
  one("#sheet")?.addEventListener("click", (event) => {
    const row = rows.find((other) => String(other.id) === event.target.dataset.id);
    if (row) reviewPair(row, row);
  });
  addEventListener("resize", draw);
  addEventListener("beforeunload", (event) => unsaved && event.preventDefault());
}

async function main() {
  try {
    await unpack();
  } catch (error) {
    one("#found").textContent = `This browser cannot unpack the list (${error.message}): see suspects.csv.`;
    return;
  }
  recall();
  listen();
  one("#start").disabled = !listed().length;
  tell();
  find();
  document.documentElement.dataset.ready = "";
}

main();
