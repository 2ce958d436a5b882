"use strict";

const $ = (id) => document.getElementById(id);
const panels = [];
let sizes = [];
let name = "";
let running = null;

const count = (n) =>
  n >= 1e9 ? (n / 1e9).toFixed(2) + " B" : n >= 1e6 ? (n / 1e6).toFixed(2) + " M" : n >= 1e3 ? (n / 1e3).toFixed(1) + " k" : String(n);

function headers() {
  const key = $("key").value.trim();
  const own = { "Content-Type": "application/json" };
  return key ? { ...own, Authorization: "Bearer " + key } : own;
}

// What the server says is wrong with a response.
async function refusal(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return "the server answered with status " + response.status;
  }
}

async function load() {
  const response = await fetch("v1/models", { headers: headers() });
  if (!response.ok) {
    $("problem").textContent = await refusal(response);
    return;
  }
  $("problem").textContent = "";
  const models = (await response.json()).data;
  name = models[0].id;
  sizes = models.slice(1);
  $("model").textContent = name;
  document.title = "Matformer: " + name;
  $("chat-label").hidden = !models[0].chat;
  $("tokens").max = models[0].max_model_len;
  for (const size of sizes.slice(0, -1)) {
    $("draft").add(new Option("drafted by " + size.size, size.size));
  }
  if (sizes.length > 1) {
    $("draft").add(new Option("drafted by the fastest", "auto"));
  }
  const own = sizes.findIndex((size) => size.size === models[0].size);
  addPanel(own < 0 ? sizes.length - 1 : own);
  addPanel(0);
  showPanels();
}

function addPanel(at) {
  const node = $("panel").content.firstElementChild.cloneNode(true);
  const find = (selector) => node.querySelector(selector);
  const panel = { node, at, find, slider: find("input[type=range]"), answer: find(".answer"), status: find(".status") };
  panel.slider.max = sizes.length - 1;
  panel.slider.value = at;
  panel.slider.addEventListener("input", () => {
    panel.at = Number(panel.slider.value);
    show(panel);
  });
  for (const size of sizes) {
    const tick = document.createElement("span");
    tick.textContent = size.size;
    find(".ticks").append(tick);
  }
  panels.push(panel);
  $("panels").append(node);
  show(panel);
}

function show(panel) {
  const size = sizes[panel.at];
  const parameters = count(size.parameters) + " parameters";
  const loss = size.loss ? size.loss.nats.toFixed(3) + " nats" : "not measured";
  const speed = size.tokens_per_second ? size.tokens_per_second.toFixed(0) + " tokens/s" : "not measured";
  panel.find("h2").textContent = "Size " + size.size;
  panel.find(".parameters").textContent = count(size.parameters);
  panel.find(".loss").textContent = loss;
  panel.find(".speed").textContent = speed;
  panel.slider.setAttribute("aria-valuetext", size.size + ": " + parameters + ", loss " + loss + ", " + speed);
}

function showPanels() {
  panels[1].node.hidden = !$("compare").checked || sizes.length < 2;
  $("legend").hidden = !$("draft").value;
}

function write(panel, text, kind) {
  const last = panel.answer.lastChild;
  if (last && last.className === kind) {
    last.textContent += text;
    return;
  }
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = text;
  panel.answer.append(span);
}

function request(panel, draft) {
  const prompt = $("prompt").value;
  const body = {
    model: name + "@" + sizes[panel.at].size,
    max_tokens: Number($("tokens").value),
    temperature: Number($("temperature").value),
    stream: true,
    stream_options: { include_usage: true },
  };
  // A draft is of a narrower size.
  const narrower = sizes.findIndex((size) => size.size === draft) < panel.at;
  if (draft && panel.at > 0 && narrower) {
    // Always so many at a time: what is kept of them is to be seen.
    body.draft = { size: draft, len: 4 };
  }
  return $("chat").checked
    ? ["v1/chat/completions", { ...body, messages: [{ role: "user", content: prompt }] }]
    : ["v1/completions", { ...body, prompt }];
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

async function generate(panel, signal) {
  const [path, body] = request(panel, $("draft").value);
  panel.answer.textContent = "";
  panel.answer.setAttribute("aria-busy", "true");
  panel.status.textContent = "generating …";
  if (!$("chat").checked) write(panel, $("prompt").value, "prompt");
  const started = performance.now();
  try {
    const response = await fetch(path, { method: "POST", headers: headers(), body: JSON.stringify(body), signal });
    if (!response.ok) throw new Error(await refusal(response));
    let usage = null;
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      usage = event.usage || usage;
      for (const choice of event.choices) {
        const text = choice.delta ? choice.delta.content : choice.text;
        if (text) write(panel, text, choice.drafted ? "drafted" : "");
      }
    }
    panel.status.textContent = summary(usage, (performance.now() - started) / 1000);
  } catch (error) {
    panel.status.textContent = error.name === "AbortError" ? "stopped" : error.message;
  } finally {
    panel.answer.setAttribute("aria-busy", "false");
  }
}

function summary(usage, seconds) {
  const tokens = usage ? usage.completion_tokens : 0;
  let text = tokens + " tokens in " + seconds.toFixed(1) + " s, " + (tokens / seconds).toFixed(0) + " tokens/s";
  const drafts = usage && usage.completion_tokens_details;
  if (drafts) {
    const all = drafts.accepted_prediction_tokens + drafts.rejected_prediction_tokens;
    text += "; " + drafts.accepted_prediction_tokens + " of " + all + " drafted tokens kept";
  }
  return text;
}

async function go() {
  if (running || !sizes.length) return;
  running = new AbortController();
  $("go").disabled = true;
  $("stop").disabled = false;
  const shown = panels.filter((panel) => !panel.node.hidden);
  await Promise.all(shown.map((panel) => generate(panel, running.signal)));
  running = null;
  $("go").disabled = false;
  $("stop").disabled = true;
}

function stop() {
  if (running) running.abort();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  go();
});
$("stop").addEventListener("click", stop);
$("compare").addEventListener("change", showPanels);
$("draft").addEventListener("change", showPanels);
$("key").addEventListener("change", () => {
  if (!sizes.length) load();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) go();
  if (event.key === "Escape") stop();
});
load();
