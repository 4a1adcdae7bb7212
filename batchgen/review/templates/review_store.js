// Where votes go: to the server, each sent until it is acknowledged, or into this browser and from there into a file.
const review = (() => {
  const { data, say } = page;
  const config = data.config;
  const prefix = "batchgen-review:" + config.key + ":";
  const kept = {
    read: (key) => { try { return JSON.parse(localStorage.getItem(prefix + key)); } catch { return null; } },
    write: (key, value) => { try { localStorage.setItem(prefix + key, JSON.stringify(value)); return true; } catch { return false; } },
    drop: (key) => { try { localStorage.removeItem(prefix + key); return true; } catch { return false; } },
    keys: (start) => {
      try { return Object.keys(localStorage).filter((key) => key.startsWith(prefix + start)).map((key) => key.slice(prefix.length)); }
      catch { return []; }
    },
  };
  const hex = (bytes) =>
    [...crypto.getRandomValues(new Uint8Array(bytes))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

  // The server. What it has not acknowledged is kept in the browser: a page that is opened again sends it.
  const served = (reviewer, changed) => {
    const token = new URLSearchParams(location.search).get("token") ?? "";
    const name = "reviewer=" + encodeURIComponent(reviewer);
    const box = "unsent:" + reviewer + ":" + hex(8);
    const unsent = kept.keys("unsent:" + reviewer + ":").flatMap((key) => {
      const found = kept.read(key) ?? [];
      kept.drop(key);
      return found;
    });
    const keep = () => (unsent.length ? kept.write(box, unsent) : kept.drop(box));
    const call = async (path, body) => {
      const headers = { "x-review-token": token };
      if (body) headers["content-type"] = "application/json";
      const response = await fetch(path, {
        method: body ? "POST" : "GET", headers, body: body ? JSON.stringify(body) : undefined, cache: "no-store", credentials: "omit",
      });
      if (response.status === 403) throw Object.assign(new Error("403"), { refused: true });
      const found = await response.json();
      if (!response.ok) throw Object.assign(new Error(say("error_" + found.code, { error: found.error })), { answered: true, final: response.status < 500 });
      return found;
    };
    let sending = false;
    const send = async () => {
      if (sending) return;
      sending = true;
      let pause = 250;
      while (unsent.length) {
        try {
          const { progress } = await call("api/votes", unsent[0]);
          unsent.shift();
          keep();
          pause = 250;
          changed({ kind: unsent.length ? "saving" : "saved", progress });
        } catch (error) {
          if (error.final) {
            changed({ kind: "failed", error: error.message, lost: unsent.shift() });
            keep();
            continue;
          }
          const kind = error.refused ? "refused" : error.answered ? "failed" : "unsaved";
          changed({ kind, n: unsent.length, error: error.message });
          if (error.refused) break;
          await wait(pause);
          pause = Math.min(2 * pause, 4000);
        }
      }
      sending = false;
    };
    keep();
    return {
      open: async () => {
        const found = await call("api/state?" + name);
        const known = new Set(found.votes.map((vote) => vote.vote_id));
        const waiting = unsent.filter((vote) => !known.has(vote.vote_id));
        send();
        return { ...found, votes: [...found.votes, ...waiting] };
      },
      item: (n) => call("api/items/" + n + "?" + name),
      next: async () => (config.overlap ? (await call("api/next?" + name, {})).n : null),
      save: (vote) => {
        unsent.push({ ...vote, reviewer });
        keep();
        changed({ kind: "saving", n: unsent.length });
        send();
      },
      get unsent() { return unsent.length; },
    };
  };

  // The file: answers are in the page, votes in the browser. Each vote and each side has an entry of its own: the same page
  // may be open in several tabs, which add to each other's entries and replace none.
  const exported = (reviewer, changed) => {
    const votesKey = "vote:" + reviewer + ":", sideKey = "side:" + reviewer + ":";
    const votes = new Map(), sides = new Map(), unkept = new Set();
    let fetched = true;
    const all = () => {
      for (const key of kept.keys(votesKey)) {
        const found = kept.read(key);
        if (found) votes.set(found.vote_id, found);
      }
      return [...votes.values()].sort((one, other) => Date.parse(one.time) - Date.parse(other.time));
    };
    let last = all().reduce((latest, vote) => Math.max(latest, Date.parse(vote.time)), 0);
    const first = (n) => {
      if (!config.pair) return "run";
      const found = kept.read(sideKey + n) ?? sides.get(n) ?? (crypto.getRandomValues(new Uint8Array(1))[0] % 2 ? "run" : "other");
      sides.set(n, found);
      kept.write(sideKey + n, found);
      return found;
    };
    const complete = (record) => {
      const [run, other] = data.items[record.n].votes, side = first(record.n);
      const isAboutOther = other && record.place && (record.place === "a") === (side === "other");
      const vote = {
        vote_id: record.vote_id, time: record.time, reviewer, ...(isAboutOther ? other : run), kind: record.kind,
        blind: !record.shown_metrics, dwell_ms: record.dwell_ms, rubric: config.rubric.name,
      };
      for (const name of ["value", "labels", "comment", "edited_text", "undoes"])
        if (record[name] != null) vote[name] = record[name];
      if (record.kind === "pair") {
        const swapped = { a: "b", b: "a" };
        Object.assign(vote, {
          choice: side === "run" ? record.choice : swapped[record.choice] ?? record.choice, shown_first: side,
          other_run_id: other.run_id, other_sample: other.sample, other_response_sha: other.response_sha,
        });
      }
      return JSON.stringify(vote) + "\n";
    };
    return {
      open: async () => ({ queue: data.items.map((item) => item.n), votes: all(), progress: [] }),
      item: async (n) => {
        const { votes, ...item } = data.items[n];
        return first(n) === "run" ? item : { ...item, answers: [...item.answers].reverse() };
      },
      next: async () => null,
      save: (record) => {
        last = Math.max(Date.now(), last + 1);
        const vote = { ...record, time: new Date(last).toISOString() };
        votes.set(vote.vote_id, vote);
        unkept.add(vote);
        for (const one of unkept) if (kept.write(votesKey + one.vote_id, one)) unkept.delete(one);
        fetched = false;
        changed({ kind: unkept.size ? "not_kept" : "kept" });
      },
      file: () => {
        fetched = true;
        return all().map(complete).join("");
      },
      get unsent() { return fetched ? 0 : unkept.size; },
    };
  };
  return { config, hex, kept, open: config.exported ? exported : served };
})();
