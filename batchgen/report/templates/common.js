"use strict";
// What all pages share: theme, language, and texts of rows as text nodes.
const page = (() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const node = (name, className, ...children) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  };

  // Theme and language.
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = "";
  const setTheme = () => { root.dataset.theme = chosen || (dark.matches ? "dark" : "light"); };
  dark.addEventListener("change", setTheme);
  document.getElementById("theme").addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    setTheme();
  });
  let screenTheme = "";
  window.addEventListener("beforeprint", () => { screenTheme = root.dataset.theme; root.dataset.theme = "light"; });
  window.addEventListener("afterprint", () => { root.dataset.theme = screenTheme; });
  setTheme();
  const setLanguage = (language) => {
    root.lang = language;
    for (const chart of document.querySelectorAll("svg[data-zh]")) chart.setAttribute("aria-label", chart.dataset[language]);
  };
  setLanguage(navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
  const switchLanguage = () => setLanguage(root.lang === "zh" ? "en" : "zh");
  const say = (key, values = {}) =>
    (data.text[root.lang][key] ?? key).replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);

  // Texts of rows are text nodes; characters that are invisible or change the reading order are shown by their numbers.
  const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;
  const signOf = (character) => "U+" + character.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
  const visible = (text) => text.replace(hidden, (character) => "<" + signOf(character) + ">");
  const parts = (text) => {
    const found = [];
    let end = 0;
    for (const match of text.matchAll(hidden)) {
      found.push(text.slice(end, match.index), node("span", "sign", signOf(match[0])));
      end = match.index + match[0].length;
    }
    return [...found, text.slice(end)];
  };
  const plain = (value) => (value == null ? "" : typeof value === "string" ? value : value.cut);
  const more = (value) =>
    value && value.more ? [node("div", "small", say("characters_more", { n: value.more.toLocaleString() }))] : [];
  const box = (value) => {
    const made = node("div", "text", ...(value == null ? [say("no_answer")] : parts(plain(value))), ...more(value));
    made.dir = "auto";
    return made;
  };
  // An answer of white space alone is shown as none: a reader would see an empty box.
  const answerBox = (value) => box(plain(value).trim() === "" ? null : value);
  return { root, data, node, say, switchLanguage, visible, parts, plain, more, box, answerBox };
})();
