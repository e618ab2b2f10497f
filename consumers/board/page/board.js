// Shows what /events sends. Everything that comes from a message becomes text by textContent, never markup.

const STALE_MS = 5000;
const RETRY_MS = 2000;
const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const time = (seconds) => clock.format(new Date(seconds * 1000));
const count = (n, word) => `${number.format(n)} ${word}${n === 1 ? "" : "s"}`;

const parts = { kitchen: null, contract: null, letters: null };
let heardAt = Date.now();
let connected = false;

/** Makes an element; children that are no elements become text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) element.setAttribute(name, value);
  element.append(...children.map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return element;
}

const cell = (content, kind) => make("td", { class: kind }, content);
const head = (content, more) => make("th", { scope: "row", ...more }, content);
const say = (element, text) => { if (element.textContent !== text) element.textContent = text; };
const fill = (id, rows, columns, otherwise) =>
  byId(id).tBodies[0].replaceChildren(...(rows.length ? rows : [make("tr", { class: "empty" }, make("td", { colspan: columns }, otherwise))]));

/* Kitchen */

const known = new Map(); // the rows that are shown, by place: a row is made once, so that a reader's place is kept

function showOrders(orders) {
  const first = known.size === 0;
  const rows = orders.map((order) => known.get(order.place) ?? orderRow(order, first));
  known.clear();
  orders.forEach((order, at) => {
    known.set(order.place, rows[at]);
    say(rows[at].lastChild, order.version); // the registry may only just have told which one it is
  });
  fill("orders", rows, 5, "No orders yet: publish one with “waiter margherita 17”");
}

function orderRow(order, first) {
  const way = order.way === null ? make("span", { title: "It was there before the board" }, "earlier") : `${number.format(Math.round(order.way * 1000))} ms`;
  const place = `partition and offset ${order.place}`;
  return make("tr", { class: first ? null : "new", title: place }, head(order.pizza), cell(order.table, "number"),
    cell(time(order.placed)), cell(way, "number"), cell(order.version, "number"));
}

function showBars(id, counts, window) {
  const highest = Math.max(1, ...counts.map(([, orders]) => orders));
  fill(id, counts.map(([name, orders]) => {
    const row = make("tr", {}, head(name), cell(number.format(orders), "number"));
    row.style.setProperty("--share", `${(100 * orders) / highest}%`);
    return row;
  }), 2, "None yet");
  say(byId(id).caption, `By ${id.slice(0, -1)}${window ? `, last ${number.format(window)}` : ""}`);
}

function showRate(rates) {
  const width = 1200, height = 150;
  const highest = Math.max(1, ...rates);
  const points = rates.map((rate, at) => `${((at * width) / (rates.length - 1)).toFixed(1)},${(height - 2 - (rate / highest) * (height - 8)).toFixed(1)}`);
  const shape = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const lines = [0.25, 0.5, 0.75].map((share) => shape("line", { class: "rule", x1: 0, x2: width, y1: height * share, y2: height * share }));
  byId("rate").replaceChildren(...lines,
    shape("polygon", { class: "area", points: `0,${height} ${points.join(" ")} ${width},${height}` }),
    shape("polyline", { class: "line", points: points.join(" ") }));
  say(byId("rate-top"), number.format(highest));
  say(byId("rate-words"), `${number.format(rates.at(-1))} in the last second, ${number.format(Math.max(...rates))} at most and `
    + `${number.format(rates.reduce((sum, rate) => sum + rate, 0))} in all in the last two minutes`);
}

function showGroups(groups) {
  fill("lag", groups.flatMap(({ name, partitions }) => partitions.map((one) => make("tr", {}, head(name),
    cell(one.partition, "number"), cell(one.committed === null ? "none" : number.format(one.committed), "number"),
    cell(number.format(one.end), "number"), cell(number.format(one.lag), one.lag ? "number behind" : "number")))), 5, "Not known yet");
  fill("members", groups.flatMap(({ name, state, members }) => {
    if (members === null) return [make("tr", {}, head(name), make("td", { colspan: 2 }, "Not known: this broker does not tell"))];
    if (!members.length) return [make("tr", {}, head(name), make("td", { colspan: 2, class: "behind" }, `Nobody (${state})`))];
    return members.map((one) => make("tr", {}, head(name), cell(`${one.client} at ${one.host}`), cell(one.partitions.join(", ") || "none")));
  }), 3, "Not known yet");
}

function showKitchen() {
  const { newest, pizzas, tables, rates, groups, window } = parts.kitchen;
  showOrders(newest);
  showBars("pizzas", pizzas, window);
  showBars("tables", tables, window);
  showRate(rates);
  showGroups(groups);
}

/* Contract */

function showContract() {
  const { subject, level, registry_level: registered, versions, readers, findings } = parts.contract;
  say(byId("subject"), subject);
  const same = registered === level ? "and so does the registry" : registered === null ? "and the registry is not known now" : `and the registry has ${registered}`;
  say(byId("level"), `Compatibility: the contract says ${level}, ${same}.`);
  byId("findings").replaceChildren(...findings.map((finding) => make("li", {}, finding)));
  fill("versions", versions.map((one) => make("tr", {}, head(one.released ? one.number : `${one.number} (not released)`),
    cell(make("ul", {}, ...one.changes.map((change) => make("li", {}, change)))),
    cell(one.schema_id !== null ? `id ${one.schema_id}` : registered === null ? "not known" : "not in the registry", one.schema_id === null ? "behind" : null),
    make("td", { class: "number", "data-version": one.number }))), 4, "None");
  byId("matrix").tHead.replaceChildren(make("tr", {}, make("th", { scope: "col" }, "Reader"),
    ...versions.map((one) => make("th", { scope: "col" }, `written with ${one.number}`))));
  fill("matrix", readers.map((reader) => make("tr", {}, head(`${reader.group} (reads with ${reader.version})`),
    ...reader.reads.map((one) => cell(one.reads ? "✓ reads" : `✕ ${one.why.join("; ")}`, one.reads ? "good" : "bad")))), versions.length + 1, "No reader");
}

function showWritten() {
  const { versions, window } = parts.kitchen;
  const shares = new Map(versions);
  for (const place of document.querySelectorAll("[data-version]")) {
    const share = shares.get(place.dataset.version) ?? 0;
    say(place, window ? `${number.format(share)} (${Math.round((100 * share) / window)} %)` : "none");
  }
}

/* Dead letters */

function showLetters() {
  const { counts, newest } = parts.letters;
  fill("reasons", Object.entries(counts).flatMap(([group, reasons]) => (reasons.length ? reasons : [["none", 0]]).map(([reason, letters]) =>
    make("tr", {}, head(group), cell(reason), cell(number.format(letters), letters ? "number behind" : "number")))), 3, "None");
  const shown = newest.map((one) => make("li", { class: "panel" },
    make("h4", {}, `${one.group}: ${one.reason}`), make("p", {}, one.sentence),
    make("p", { class: "note" }, `${one.place}, placed ${time(one.placed)}, ${count(one.size, "byte")}; letter ${one.offset}`),
    make("pre", { tabindex: 0, role: "region", "aria-label": `Bytes of letter ${one.offset} of ${one.group}` }, one.bytes || "no bytes")));
  byId("newest").replaceChildren(...(shown.length ? shown : [make("li", { class: "panel empty" }, "No message has been set aside.")]));
}

/* Figures and status */

function showFigures() {
  const { kitchen, letters } = parts;
  const lag = (group) => group.partitions.reduce((sum, one) => sum + one.lag, 0);
  const figures = [["In the topic", kitchen.orders === null ? "?" : number.format(kitchen.orders)], ["Last second", number.format(kitchen.rates.at(-1))],
    ...kitchen.groups.map((group) => [`${group.name} behind`, number.format(lag(group)), lag(group) > 0]),
    ["Version on the wire", kitchen.versions.length ? kitchen.versions.map(([version]) => version).sort().join(", ") : "–"]];
  if (kitchen.repeated) figures.push([`Order ids again, last ${number.format(kitchen.window)}`, number.format(kitchen.repeated), true]);
  if (letters) {
    const total = Object.values(letters.counts).flat().reduce((sum, [, n]) => sum + n, 0);
    figures.push(["Dead letters", number.format(total), total > 0]);
  }
  byId("figures").replaceChildren(...figures.map(([name, value, behind]) =>
    make("div", { class: behind ? "behind" : null }, make("dt", {}, name), make("dd", {}, value))));
}

function showStatus() {
  const { kitchen } = parts;
  const silent = Date.now() - heardAt > STALE_MS;
  const problems = kitchen ? Object.entries(kitchen.problems) : [];
  const [state, words] = !connected || silent
    ? ["lost", kitchen ? `Connection lost, what you see is of ${time(kitchen.now)}` : "Connecting …"]
    : problems.length ? ["away", `Not all is known now${kitchen.asked ? `, lags are of ${time(kitchen.asked)}` : ""}`] : ["live", "Live"];
  const status = byId("status");
  say(status, words);
  status.dataset.state = document.body.dataset.state = state;
  const told = problems.map(([what, sentence]) => `${what}: ${sentence}`);
  const list = byId("problems");
  if (told.join() !== [...list.children].map((one) => one.textContent).join()) {
    list.replaceChildren(...told.map((one) => make("li", {}, one)));
  }
}

const show = { kitchen: showKitchen, contract: showContract, letters: showLetters };

function listen() {
  const source = new EventSource("/events");
  source.onopen = () => { connected = true; heardAt = Date.now(); };
  for (const part of Object.keys(parts)) {
    source.addEventListener(part, (event) => {
      heardAt = Date.now();
      parts[part] = JSON.parse(event.data);
      if (parts[part] === null) return;
      show[part]();
      if (parts.kitchen) showFigures();
      if (parts.kitchen && parts.contract) showWritten();
      showStatus();
    });
  }
  source.onerror = () => {
    connected = false;
    showStatus();
    if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
    setTimeout(listen, RETRY_MS);
  };
}

setInterval(showStatus, 1000);
listen();
