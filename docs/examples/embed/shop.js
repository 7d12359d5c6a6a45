// The shop's side of the widget: who the visitor is, one button that asks, and what to do with an answer.

const chat = document.querySelector("visavis-chat");
customElements.whenDefined("visavis-chat").then(() => {
  chat.token = async () => (await fetch("/token")).text();
});
document.querySelector("#ask").onclick = () => chat.open();
chat.addEventListener("visavis:answer", ({ detail }) => {
  document.querySelector("#answer").textContent = detail.text;
});
