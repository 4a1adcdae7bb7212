(() => {
  const { root, data, node, say, switchLanguage, visible, parts, plain, more, box, answerBox } = page;
  const PAGE = 50;

  // Differences of two texts, by words; a Chinese character is a word.
  const words = (text) => text.match(/[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+|\s+/g) ?? [];
  const LONGEST = 1200;
  const compared = (one, other) => {
    const a = words(one), b = words(other);
    if (a.length > LONGEST || b.length > LONGEST) return null;
    const width = b.length + 1, table = new Uint16Array((a.length + 1) * width);
    for (let i = a.length - 1; i >= 0; i--)
      for (let j = b.length - 1; j >= 0; j--)
        table[i * width + j] = a[i] === b[j]
          ? table[(i + 1) * width + j + 1] + 1
          : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    const left = [], right = [];
    let i = 0, j = 0;
    while (i < a.length || j < b.length) {
      if (i < a.length && j < b.length && a[i] === b[j]) { left.push([0, a[i++]]); right.push([0, b[j++]]); }
      else if (j >= b.length || (i < a.length && table[(i + 1) * width + j] >= table[i * width + j + 1])) left.push([1, a[i++]]);
      else right.push([1, b[j++]]);
    }
    const joined = (list, tag) => {
      const found = [];
      for (let k = 0; k < list.length; ) {
        const kind = list[k][0];
        let text = "";
        while (k < list.length && list[k][0] === kind) text += list[k++][1];
        found.push(...(kind ? [node(tag, "", ...parts(text))] : parts(text)));
      }
      return found;
    };
    return [joined(left, "del"), joined(right, "ins")];
  };
  const sideBySide = (base, now) => {
    const found = base == null || now == null ? null : compared(plain(base), plain(now));
    const made = (value, nodes) => {
      if (!nodes || plain(value).trim() === "") return answerBox(value);
      const filled = node("div", "text", ...nodes, ...more(value));
      filled.dir = "auto";
      return filled;
    };
    return node("div", "pair",
      node("div", "", node("h4", "", say("answer_base")), made(base, found && found[0])),
      node("div", "", node("h4", "", say("answer_new")), made(now, found && found[1])));
  };

  const number = (value, unit) =>
    value == null ? "–" : unit === "fraction" ? value.toFixed(3) : Number(value.toPrecision(4)).toLocaleString("en");
  const ending = (row) => {
    const name = "end_" + row.finish;
    return data.text[root.lang][name] ?? row.finish;
  };
  const scoresTable = (row) => {
    const body = node("tbody", "");
    for (const metric of data.metrics) {
      const score = row.scores[metric.name];
      if (!score) continue;
      const [value, status, answer, rule] = score;
      const base = row.base_scores && row.base_scores[metric.name];
      const shown = base ? number(base[0], metric.unit) + " → " + number(value, metric.unit) : number(value, metric.unit);
      const detail = node("td", "small");
      if (answer != null) detail.append(...parts(say("extracted", { answer: plain(answer) })), " ");
      if (rule != null) detail.append(...parts(plain(rule)));
      body.append(node("tr", "", node("td", "", ...parts(metric.name)), node("td", "num", shown),
        node("td", "small", status === "ok" ? "" : status), detail));
    }
    return node("div", "scroll", node("table", "", body));
  };
  const fill = (row, body) => {
    const add = (title, ...content) => body.append(node("h4", "", title), ...content);
    if (row.error != null) add(say("failed"), box((row.code ?? "") + ": " + plain(row.error)));
    if (row.earlier) body.append(node("p", "small", say("earlier", { n: row.earlier })));
    for (const turn of row.prompt ?? []) add(say("prompt") + " · " + say(turn.role), box(turn.content));
    if (row.reasoning != null) add(say("reasoning"), box(row.reasoning));
    if ("base" in row) body.append(sideBySide(row.base, row.answer));
    else add(say("answer"), answerBox(row.answer));
    for (const text of row.reference) add(say("reference"), box(text));
    add(say("scores"), scoresTable(row));
    if (row.slices.length) body.append(node("p", "small", ...parts(row.slices.join(" · "))));
  };
  const firstLine = (row) => {
    const turns = row.prompt ?? [];
    const last = turns.length ? plain(turns[turns.length - 1].content) : plain(row.answer);
    return last.slice(0, 200).replace(/\s+/g, " ");
  };
  const card = (row, metric) => {
    const id = node("span", "id", ...parts(plain(row.id)));
    const summary = node("summary", "", id);
    if (row.sample) summary.append(node("span", "small", say("sample", { n: row.sample })));
    for (const why of row.why) if (why === "flip" || why === "failed") summary.append(node("span", "tag " + why, say(why)));
    if (row.finish && row.finish !== "stop") summary.append(node("span", "tag " + row.finish, ending(row)));
    if (metric) {
      const score = row.scores[metric.name];
      const base = row.base_scores && row.base_scores[metric.name];
      const value = score ? number(score[0], metric.unit) : "–";
      const changed = base && score && base[0] !== score[0];
      summary.append(node("span", "tag", metric.name + " " + (changed ? number(base[0], metric.unit) + " → " : "") + value));
    }
    const start = node("bdi", "start", ...parts(firstLine(row)));
    summary.append(start);
    const body = node("div", "body"), made = node("details", "row", summary, body);
    made.addEventListener("toggle", () => { if (made.open && !body.childNodes.length) fill(row, body); });
    return made;
  };

  // Filters.
  const state = { text: "", slice: "", finish: "", why: "", metric: "", order: "chosen", scored: "", shown: PAGE };
  const ranked = data.metrics.filter((one) => one.ranked);
  state.metric = (ranked[0] ?? data.metrics[0] ?? { name: "" }).name;
  const haystacks = data.rows.map((row) =>
    [plain(row.id), ...(row.prompt ?? []).map((turn) => plain(turn.content)), plain(row.answer), ...row.reference.map(plain),
      plain(row.base)].join("\n").toLowerCase());
  const unique = (values) => [...new Set(values)];
  const choice = (key, options) => {
    const made = node("select", "");
    made.id = "by-" + key;
    for (const [value, label] of options) {
      const option = node("option", "", label);
      option.value = value;
      option.selected = state[key] === value;
      made.append(option);
    }
    made.addEventListener("change", () => { state[key] = made.value; state.shown = PAGE; list(); });
    return made;
  };
  const labelled = (text, control, className) => node("label", className ?? "", text, control);
  const filters = () => {
    const bar = document.getElementById("filters");
    bar.replaceChildren();
    const search = node("input", "");
    search.type = "search";
    search.id = "search";
    search.value = state.text;
    search.addEventListener("input", () => { state.text = search.value; state.shown = PAGE; list(); });
    bar.append(labelled(say("search"), search, "wide"));
    const all = ["", say("all")];
    if (data.slices.length) bar.append(labelled(say("slice"), choice("slice", [all, ...data.slices.map((s) => [s, visible(s)])])));
    const ends = unique(data.rows.map((row) => row.finish).filter((one) => one != null));
    if (ends.length) bar.append(labelled(say("status"), choice("finish", [all, ...ends.map((e) => [e, ending({ finish: e })])])));
    const reasons = unique(data.rows.flatMap((row) => row.why));
    const named = { worst: "why_worst" };
    bar.append(labelled(say("why"), choice("why", [all, ...reasons.map((w) => [w, say(named[w] ?? w)])])));
    if (!data.metrics.length) return;
    bar.append(labelled(say("order"), choice("metric", data.metrics.map((m) => [m.name, m.name]))));
    bar.append(labelled("\u00a0", choice("order", [["chosen", say("as_chosen")], ["worst", say("worst")], ["best", say("best")]])));
    bar.append(labelled(say("scored"), choice("scored", [all, ["worst", say("score_worst")], ["best", say("score_best")], ["none", say("score_none")]])));
  };
  const valueOf = (row) => (row.scores[state.metric] ?? [null])[0];
  const badness = (row, metric) => {
    const value = valueOf(row);
    return value == null ? null : metric.higher === false ? -value : value;
  };
  const list = () => {
    const metric = data.metrics.find((one) => one.name === state.metric);
    const wanted = state.text.toLowerCase();
    let rows = data.rows.filter((row, n) =>
      (!wanted || haystacks[n].includes(wanted)) && (!state.slice || row.slices.includes(state.slice)) &&
      (!state.finish || row.finish === state.finish) && (!state.why || row.why.includes(state.why)));
    if (metric && state.scored) {
      const values = data.rows.map((row) => badness(row, metric)).filter((value) => value != null);
      const end = state.scored === "worst" ? Math.min(...values) : Math.max(...values);
      rows = rows.filter((row) => (state.scored === "none" ? valueOf(row) == null : badness(row, metric) === end));
    }
    if (metric && state.order !== "chosen") {
      const sign = state.order === "worst" ? 1 : -1;
      rows.sort((a, b) => {
        const x = badness(a, metric), y = badness(b, metric);
        return x == null || y == null ? (x == null) - (y == null) : sign * (x - y);
      });
    }
    const shown = rows.slice(0, state.shown);
    document.getElementById("list").replaceChildren(...shown.map((row) => card(row, metric)));
    const count = document.getElementById("count");
    count.textContent = rows.length ? say("count", { n: rows.length, all: data.rows.length }) : say("nothing");
    const button = document.getElementById("more");
    button.hidden = rows.length <= state.shown;
    button.textContent = say("more", { n: Math.min(PAGE, rows.length - state.shown) });
  };
  document.getElementById("more")?.addEventListener("click", () => { state.shown += PAGE; list(); });
  document.getElementById("language").addEventListener("click", () => {
    switchLanguage();
    if (document.getElementById("filters")) show();
  });
  const show = () => { filters(); list(); };
  if (document.getElementById("filters")) show();
})();
