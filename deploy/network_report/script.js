"use strict";
const show = () => {
  const card = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (card instanceof HTMLDetailsElement) { card.open = true; card.scrollIntoView(); }
};
addEventListener("hashchange", show);
show();
for (const button of document.querySelectorAll("button.all")) {
  const cards = [...button.closest("section").querySelectorAll("details.card")];
  button.hidden = false;
  button.addEventListener("click", () => {
    const open = cards.some((card) => !card.open);
    for (const card of cards) card.open = open;
    button.textContent = open ? "Close all" : "Open all";
  });
}
