(() => {
  const { root, node, say, switchLanguage, parts, plain, box, answerBox } = page;
  const { config, hex, kept } = review;
  const at = (id) => document.getElementById(id);
  const PLACES = config.pair ? ["a", "b"] : [null];
  const FLAGS = ["unsafe", "private", "wrong"];
  const DECIDES = ["rating", "pass", "pair"];

  let store = null, reviewer = "", queue = [], votes = [], progress = [], status = null;
  let place = 0, current = null, since = 0, panel = null, loading = 0;
  const shown = { prompt: true, reference: true, scores: false };
  const revealed = new Set(), items = new Map();
  let advances = true;

  // Votes that count: not undone, and not replaced by a later one about the same.
  const standing = () => {
    const undone = new Set(), replaced = new Set(), found = [];
    for (const vote of [...votes].reverse()) {
      if (undone.has(vote.vote_id)) continue;
      if (vote.kind === "undo") { undone.add(vote.undoes); continue; }
      const single = vote.kind === "comment" || vote.kind === "flag";
      const subject = single ? vote.vote_id : [vote.n, vote.kind, vote.place ?? ""].join(" ");
      if (replaced.has(subject)) continue;
      replaced.add(subject);
      found.unshift(vote);
    }
    return found;
  };
  const mine = (n) => standing().filter((vote) => vote.n === n);
  const isRated = (n) => mine(n).some((vote) => DECIDES.includes(vote.kind));
  const done = () => new Set(standing().filter((vote) => vote.kind === "skip" || DECIDES.includes(vote.kind)).map((vote) => vote.n));
  const latest = (kind) => (current ? mine(current.n).findLast((vote) => vote.kind === kind) : undefined);

  const vote = (kind, fields) => {
    if (!current) return;
    closePanel();
    const record = {
      n: current.n, vote_id: hex(16), kind, ...fields, shown_metrics: scoresShown(), dwell_ms: Math.round(performance.now() - since),
    };
    votes.push(record);
    store.save(record);
    const moves = kind === "skip" || (advances && DECIDES.includes(kind));
    if (moves) goToUndone(); else render();
  };
  const undo = () => {
    const last = standing().at(-1);
    if (!last) return tell(say("nothing_to_undo"));
    const { n, vote_id, place: about } = last;
    closePanel();
    const record = { n, vote_id: hex(16), kind: "undo", undoes: vote_id, ...(about ? { place: about } : {}) };
    votes.push(record);
    store.save(record);
    if (!queue.includes(n)) queue.push(n);
    go(queue.indexOf(n));
  };

  // Moving through the queue.
  const load = (n) => {
    if (!items.has(n)) items.set(n, store.item(n).catch((error) => { items.delete(n); throw error; }));
    return items.get(n);
  };
  const go = async (to) => {
    closePanel();
    place = Math.max(0, Math.min(to, queue.length));
    const mark = ++loading, n = queue[place];
    current = null;
    if (n === undefined) return render();
    try {
      const found = await load(n);
      if (mark !== loading) return;
      current = found;
      since = performance.now();
      render();
      window.scrollTo(0, 0);
    } catch (error) {
      if (mark === loading) { render(); tell(error.refused ? say("refused", { n: store.unsent }) : say("unloaded", { error: error.message })); }
      return;
    }
    if (queue[place + 1] !== undefined) load(queue[place + 1]).catch(() => items.delete(queue[place + 1]));
  };
  const more = async () => {
    try {
      const n = await store.next();
      if (n != null && !queue.includes(n)) queue.push(n);
      return n != null;
    } catch (error) {
      tell(say("unloaded", { error: error.message }));
      return false;
    }
  };
  const goToUndone = async () => {
    const finished = done(), open = (n) => !finished.has(n);
    const later = queue.findIndex((n, index) => index > place && open(n));
    const to = later >= 0 ? later : queue.findIndex(open);
    if (to >= 0) return go(to);
    await more();
    return go(queue.length && open(queue.at(-1)) ? queue.length - 1 : queue.length);
  };
  const next = async () => {
    if (place + 1 >= queue.length) await more();
    return go(place + 1);
  };

  // The answer.
  const number = (value, unit) =>
    value == null ? "–" : unit === "fraction" ? value.toFixed(3) : Number(value.toPrecision(4)).toLocaleString("en");
  const scoresShown = () => Boolean(current) && (shown.scores || revealed.has(current.n) || isRated(current.n));
  const scoresTable = (scores) => {
    const body = node("tbody", "");
    for (const metric of config.metrics) {
      const score = scores[metric.name];
      if (!score) continue;
      const [value, state, answer, rule] = score;
      const detail = node("td", "small");
      if (answer != null) detail.append(...parts(say("extracted", { answer: plain(answer) })), " ");
      if (rule != null) detail.append(...parts(plain(rule)));
      body.append(node("tr", "", node("td", "", ...parts(metric.name)), node("td", "num", number(value, metric.unit)),
        node("td", "small", state === "ok" ? "" : state), detail));
    }
    return node("div", "scroll", node("table", "", body));
  };
  const titled = (title, ...content) => node("div", "", node("h4", "", title), ...content);
  const answerOf = (answer, title) => {
    const made = titled(title);
    if (answer.cut) made.firstChild.append(" ", node("span", "tag length", say("answer_cut")));
    if (answer.reasoning != null) {
      const summary = node("summary", "small", say("reasoning"));
      made.append(node("details", "", summary, box(answer.reasoning)));
    }
    const text = answerBox(answer.text);
    text.classList.add("answer");
    made.append(text);
    if (config.metrics.length)
      made.append(scoresShown() ? scoresTable(answer.scores) : node("p", "small", say("scores_hidden")));
    return made;
  };
  const promptOf = (item) => {
    const found = [];
    if (item.earlier) found.push(node("p", "small", say("earlier", { n: item.earlier })));
    for (const turn of item.prompt) found.push(titled(say("prompt") + " · " + say(turn.role), box(turn.content)));
    const columns = Object.entries(item.columns);
    if (columns.length) found.push(titled(say("input"), ...columns.map(([name, value]) => titled(name, box(value)))));
    return found;
  };
  const describe = (one) => {
    const about = one.place && config.pair ? one.place.toUpperCase() : "";
    if (one.kind === "rating") return say("mine_rating", { value: one.value });
    if (one.kind === "pass") return say(one.value ? "mine_pass" : "mine_fail");
    if (one.kind === "pair") return say("choose_" + one.choice);
    if (one.kind === "edit") return about ? say("mine_edit_at", { place: about }) : say("mine_edit");
    if (one.kind === "skip") return say("mine_skip");
    if (one.kind === "comment") return one.comment;
    const labels = one.labels.map((label) => (one.kind === "flag" ? say(label) : label)).join(", ");
    return about ? say("mine_flag_at", { place: about, labels }) : labels;
  };
  const mineOf = (n) => {
    const found = mine(n);
    if (!found.length) return [];
    const tags = found.map((one) => node("span", "tag mine mine-" + one.kind, ...parts(describe(one))));
    const edits = found.filter((one) => one.kind === "edit").map((one) => titled(say("edited_text"), box(one.edited_text)));
    return [titled(say("mine"), node("p", "tags", ...tags)), ...edits];
  };
  const itemOf = (item) => {
    const head = node("p", "line", node("span", "id", ...parts(plain(item.id))));
    if (item.sample) head.append(node("span", "small", say("sample", { n: item.sample })));
    if (item.raters.length) head.append(node("span", "small", ...parts(say("raters", { names: item.raters.join(", ") }))));
    const made = [head];
    if (shown.prompt) made.push(...promptOf(item));
    if (shown.reference) made.push(...item.reference.map((text) => titled(say("reference"), box(text))));
    const titles = config.pair ? [say("answer_a"), say("answer_b")] : [say("answer")];
    const answers = item.answers.map((answer, index) => answerOf(answer, titles[index]));
    made.push(node("div", config.pair ? "pair" : "", ...answers));
    if (scoresShown() && item.reasons.length)
      made.push(node("p", "small", item.reasons.map((why) => say("why_" + why)).join(" · ")));
    return [...made, ...mineOf(item.n)];
  };

  // Texts and choices below the answer.
  const closePanel = () => {
    panel = null;
    at("panel").hidden = true;
    at("panel").replaceChildren();
  };
  const openPanel = (title, keys, ...content) => {
    panel = { keys };
    at("panel").replaceChildren(node("h4", "", title), ...content);
    at("panel").hidden = false;
  };
  const button = (text, key, press, className) => {
    const made = node("button", className ?? "", text);
    if (key) made.append(" ", node("kbd", "", key));
    made.type = "button";
    made.addEventListener("click", press);
    return made;
  };
  const closing = () => button(say("close"), "Esc", closePanel);
  // The answer that an edit or a flag is about.
  const placeButtons = (chosen, choose) => {
    if (!config.pair) return [];
    const made = PLACES.map((one) => button(one.toUpperCase(), one, () => choose(one), "choice"));
    made.forEach((one, index) => one.setAttribute("aria-pressed", PLACES[index] === chosen));
    return [node("p", "line", say("which"), ...made)];
  };
  const inArea = (text) => text.replace(/\r\n?/g, "\n"); // a text area has no other ends of lines
  const writing = (title, text, save, ...before) => {
    const area = node("textarea", "");
    area.value = text;
    area.rows = 6;
    area.maxLength = 1000000;
    area.dir = "auto";
    area.setAttribute("aria-label", title);
    const saved = () => save(area.value.replace(/\p{Cs}/gu, "\ufffd")); // half a character is not JSON
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); saved(); }
    });
    openPanel(title, {}, ...before, area, node("p", "line", button(say("save"), "Ctrl+Enter", saved, "primary"), closing()));
    area.focus();
  };
  const edit = (about) => {
    if (!current) return;
    const chosen = latest("pair")?.choice;
    const wanted = config.pair ? about ?? (["a", "b"].includes(chosen) ? chosen : "a") : null;
    const original = current.answers[wanted === "b" ? 1 : 0].text;
    if (original != null && typeof original !== "string") return tell(say("too_long_to_edit"));
    const earlier = mine(current.n).findLast((one) => one.kind === "edit" && (one.place ?? null) === wanted);
    const save = (text) => {
      if (text === inArea(original ?? "")) return tell(say("unchanged"));
      return vote("edit", { edited_text: text, ...(wanted ? { place: wanted } : {}) });
    };
    writing(say("edit_title"), earlier?.edited_text ?? original ?? "", save, ...placeButtons(wanted, edit));
  };
  const comment = () => {
    if (!current) return;
    writing(say("comment_title"), "", (text) => (text.trim() ? vote("comment", { comment: text.trim() }) : closePanel()));
  };
  const flag = (about) => {
    if (!current) return;
    const wanted = config.pair ? about ?? "a" : null;
    const save = (label) => vote("flag", { labels: [label], ...(wanted ? { place: wanted } : {}) });
    const keys = Object.fromEntries(FLAGS.map((label, index) => [String(index + 1), () => save(label)]));
    if (config.pair) for (const one of PLACES) keys[one] = () => flag(one);
    const choices = FLAGS.map((label, index) => button(say(label), String(index + 1), () => save(label)));
    openPanel(say("flag_title"), keys, ...placeButtons(wanted, flag), node("p", "line", ...choices, closing()));
  };
  const labels = (picked) => {
    if (!current || !config.labels.length) return;
    const before = latest("label"), chosen = picked instanceof Set ? picked : new Set(before?.labels ?? []);
    const toggle = (label) => {
      if (!chosen.delete(label)) chosen.add(label);
      labels(chosen);
    };
    const save = () => {
      const wanted = config.labels.filter((label) => chosen.has(label));
      if (wanted.length) return vote("label", { labels: wanted });
      if (!before) return closePanel();
      closePanel();
      const record = { n: current.n, vote_id: hex(16), kind: "undo", undoes: before.vote_id };
      votes.push(record);
      store.save(record);
      return render();
    };
    const keys = Object.fromEntries(config.labels.map((label, index) => [String(index + 1), () => toggle(label)]));
    keys.Enter = save;
    const choices = config.labels.map((label, index) => {
      const made = button(label, String(index + 1), () => toggle(label), "choice");
      made.setAttribute("aria-pressed", chosen.has(label));
      return made;
    });
    openPanel(say("labels_title"), keys, node("p", "line", ...choices),
      node("p", "line", button(say("save"), "Enter", save, "primary"), closing()));
  };

  // Actions, their buttons and keys.
  const rate = (value) => () => vote("rating", { value });
  const judge = (value) => () => vote("pass", { value });
  const choose = (choice) => () => vote("pair", { choice });
  const toggles = {
    q: ["show_prompt", () => { shown.prompt = !shown.prompt; render(); }, () => shown.prompt],
    r: ["show_reference", () => { shown.reference = !shown.reference; render(); }, () => shown.reference],
    m: ["show_scores", () => {
      shown.scores = !shown.scores;
      if (shown.scores && current) revealed.add(current.n);
      render();
    }, scoresShown],
  };
  const decisions = config.pair
    ? { a: ["choose_a", choose("a")], b: ["choose_b", choose("b")], t: ["choose_tie", choose("tie")], x: ["choose_both_bad", choose("both_bad")] }
    : {
        ...Object.fromEntries([1, 2, 3, 4, 5].map((value) => [String(value), [String(value), rate(value)]])),
        y: ["pass", judge(true)], x: ["fail", judge(false)],
      };
  const others = {
    ...(config.labels.length ? { l: ["labels", labels] } : {}),
    e: ["edit", () => edit()], f: ["flag", () => flag()], c: ["comment", comment], s: ["skip", () => vote("skip", {})], u: ["undo", undo],
    p: ["previous", () => go(place - 1)], n: ["next", next],
  };
  const isChosen = (key) => {
    if (config.pair) return latest("pair")?.choice === { a: "a", b: "b", t: "tie", x: "both_bad" }[key];
    if (key === "y" || key === "x") return latest("pass")?.value === (key === "y");
    return latest("rating")?.value === Number(key);
  };
  const actionButtons = () => {
    const group = (listed, className) => node("div", className, ...Object.entries(listed).map(([key, [name, press]]) => {
      const isNumber = name === key, made = button(isNumber ? key : say(name), isNumber ? "" : key, press);
      made.dataset.key = key;
      if (key === "1" || key === "5") made.append(node("span", "end", say(key === "1" ? "worst" : "best")));
      if (listed === decisions) made.setAttribute("aria-pressed", isChosen(key));
      made.disabled = !current && !["p", "n", "u"].includes(key);
      return made;
    }));
    return [group(decisions, "decisions"), group(others, "others")];
  };
  const toggleButtons = () => {
    const made = Object.entries(toggles).map(([key, [name, press, isOn]]) => {
      const one = button(say(name), key, press, "choice");
      one.setAttribute("aria-pressed", isOn());
      return one;
    });
    if (!config.metrics.length) made.pop();
    const check = node("input", "");
    check.type = "checkbox";
    check.checked = advances;
    check.addEventListener("change", () => { advances = check.checked; check.blur(); });
    return [...made, node("label", "small", check, " " + say("next_auto"))];
  };

  // The key as on a Latin keyboard, whatever the layout or the input method.
  const keyOf = (event) => {
    if (event.key.length === 1 && event.key < "\u007f") return event.key.toLowerCase();
    const found = /^(?:Key|Digit|Numpad)(\w)$/.exec(event.code);
    return found ? found[1].toLowerCase() : event.key;
  };
  document.addEventListener("keydown", (event) => {
    if (!store || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
    if (event.key === "Escape") return closePanel();
    if (event.target.matches?.("textarea, select, input:not([type=checkbox])")) return;
    const key = keyOf(event);
    const press = panel ? panel.keys[key] : (decisions[key] ?? others[key] ?? toggles[key])?.[1];
    if (!press || (key === "Enter" && event.target.matches?.("button"))) return;
    event.preventDefault();
    press();
  });

  // The state of the page.
  const tell = (text) => { at("status").textContent = text; };
  const statusText = () => {
    if (!status) return "";
    if (status.kind === "failed") return say("failed", { error: status.error });
    return say(status.kind, { n: status.n });
  };
  const changed = (found) => {
    status = found;
    if (found.progress) progress = found.progress;
    if (found.lost) votes = votes.filter((one) => one.vote_id !== found.lost.vote_id);
    at("status").className = ["saved", "kept", "saving"].includes(found.kind) ? found.kind : "bad";
    tell(statusText());
    renderState();
    if (found.lost) render();
  };
  const renderState = () => {
    const finished = queue.filter((n) => done().has(n)).length, all = config.overlap ? queue.length : config.total;
    at("bar").max = Math.max(1, all);
    at("bar").value = finished;
    at("done").textContent = say("progress", { done: finished, all });
    at("place").textContent = place < queue.length ? say("place", { n: place + 1, all }) : "";
    at("who").replaceChildren(...parts(say("as", { name: reviewer })));
    if (!config.reviewer) at("who").append(" ", button(say("change_name"), "", askName, "link"));
    const names = progress.filter((one) => one.done).map((one) => one.name + " " + one.done).join(" · ");
    at("everyone").replaceChildren(...(names ? parts(say("everyone", { names })) : []));
  };
  const download = () => {
    const made = node("a", "");
    made.href = URL.createObjectURL(new Blob([store.file()], { type: "application/x-ndjson" }));
    made.download = "ratings.jsonl";
    made.click();
    setTimeout(() => URL.revokeObjectURL(made.href), 60000);
  };
  const finished = () => {
    const isAll = queue.every((n) => done().has(n));
    return isAll ? [node("p", "headline", say("finished")), node("p", "note", say("finished_note"))] : [];
  };
  const render = () => {
    renderState();
    at("toggles").replaceChildren(...toggleButtons());
    at("item").replaceChildren(...(current ? itemOf(current) : place >= queue.length ? finished() : []));
    at("actions").replaceChildren(...actionButtons());
    if (config.exported) {
      const note = node("p", "small", say("download_note"));
      at("actions").append(node("div", "fetch", button(say("download"), "", download, "primary"), note));
    }
    at("rubric-text").replaceChildren(...parts(config.rubric.texts[root.lang]));
  };

  // Names.
  const begin = async (name) => {
    reviewer = name.normalize("NFC");
    store = review.open(reviewer, changed);
    try {
      const found = await store.open();
      ({ queue, votes, progress } = found);
    } catch (error) {
      store = null;
      at("name-note").textContent = error.refused ? say("refused", { n: 0 }) : say("failed", { error: error.message });
      at("naming").hidden = false;
      return;
    }
    items.clear();
    at("naming").hidden = true;
    at("work").hidden = false;
    place = -1;
    if (votes.length || queue.length) await goToUndone(); else await next();
  };
  const askName = () => {
    closePanel();
    store = null;
    at("work").hidden = true;
    at("naming").hidden = false;
    at("name").value = kept.read("name") ?? "";
    at("name").focus();
  };
  const named = () => {
    const name = at("name").value.trim();
    if (!name || /[/\\:*?"<>|\p{C}]|^[.-]|\.$/u.test(name) || new TextEncoder().encode(name).length > 100) {
      at("name-note").textContent = say("bad_name");
      return;
    }
    kept.write("name", name);
    begin(name);
  };
  at("begin").addEventListener("click", named);
  at("name").addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.isComposing) named(); });
  at("language").addEventListener("click", () => {
    switchLanguage();
    closePanel();
    if (store) { render(); tell(statusText()); }
  });
  window.addEventListener("beforeunload", (event) => { if (store?.unsent) event.preventDefault(); });
  if (matchMedia("(max-width: 640px)").matches) at("keys").open = false;
  if (config.reviewer) begin(config.reviewer); else askName();
})();
