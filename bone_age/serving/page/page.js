"use strict";
/* What Gradio leaves open: dates by the browser's own calendar, the attention slider, notices, moving to a new answer. */
(() => {
  const mend = () => {
    const sex = document.querySelector("#sex");
    if (sex) {
      sex.setAttribute("aria-label", "Sex");
      for (const choice of sex.querySelectorAll("input[type=radio]")) {
        // Gradio names each choice differently, again with every change: arrow keys would not move between them.
        if (choice.name !== "sex") choice.name = "sex";
        choice.removeAttribute("aria-checked");
      }
    }
    for (const input of document.querySelectorAll("#years input, #months input")) input.inputMode = "decimal";
    for (const link of document.querySelectorAll("#files a[href]")) link.removeAttribute("href");
    for (const input of document.querySelectorAll("#birth input, #taken input"))
      if (input.type === "text") input.type = "date";
  };

  // Gradio's notices vanish after ten seconds and hold raw answers of the server: said here in words that stay.
  // Each once: what is written here is a change as well, and would call for itself without end while a notice fades.
  const told = new WeakSet();
  const tell = () => {
    const notices = [...document.querySelectorAll("[data-testid=toast-text]")].filter((notice) => !told.has(notice));
    if (!notices.length) return;
    for (const notice of notices) told.add(notice);
    document.querySelector(".ba-trouble").textContent = inWords(notices.at(-1).textContent);
    for (const close of document.querySelectorAll("[data-testid=toast-close]")) close.click();
  };

  const inWords = (text) => {
    const refusal = /^HTTP \d+: (.*)$/s.exec(text.trim());
    if (!refusal) return text.trim();
    let detail = refusal[1];
    try { detail = JSON.parse(detail).detail; } catch { /* plain text */ }
    return `${String(detail).slice(0, 1).toUpperCase()}${String(detail).slice(1)}.`.replace(/\.\.$/, ".");
  };

  const moveToNews = (root) => {
    const news = root.querySelector("#ba-headline, .ba-problem, .ba-working");
    if (!news) return;
    if (root.getBoundingClientRect().top > window.innerHeight * 0.6 || root.getBoundingClientRect().top < 0)
      root.scrollIntoView({ block: "start", behavior: "auto" });
    if (news.id === "ba-headline") news.focus({ preventScroll: true });
  };

  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-attention]"))
      event.target.closest("figure").querySelector(".ba-heat").style.opacity = event.target.value / 100;
  });

  // A date of which only a part was typed has no value: the question would go out without it, and nobody would know.
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#ask")) return;
    const unfinished = [...document.querySelectorAll("#birth input, #taken input")].find((input) => input.validity.badInput);
    if (!unfinished) return;
    event.stopImmediatePropagation();
    document.querySelector(".ba-trouble").textContent = "A date is incomplete or does not exist; correct it or empty it.";
    unfinished.focus();
  }, true);

  let shown = null;
  new MutationObserver(() => {
    mend();
    tell();
    const answer = document.querySelector("#answer");
    const news = answer && answer.querySelector(".ba-answer, .ba-problem, .ba-working");
    if (news && news !== shown) {
      shown = news;
      document.querySelector(".ba-trouble").textContent = "";
      moveToNews(answer);
    }
  }).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ["name"] });
})();
