"""Surfaces to substitute for entities when training: $KEFU_RUN/lexicon.json, by entity type.

Products are jieba's nouns that the teacher holds to be like the products of data/understand (a linear probe on its sentence
vectors); places are jionlp's; numbers and codes are drawn afresh at each use (class Surfaces). No surface holds a product of
data/heldout/unseen_products.txt.
"""
import json
import random
import re
import zipfile
from collections import defaultdict

import torch
import torch.nn.functional as F

from common import DATA, ENTITIES, RUN, heldout_words, marked, package, read_folder

SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
GIVEN = "伟芳娜敏静秀丽强磊军洋勇艳杰娟涛明超霞平刚桂英华玉兰红梅建国文辉力永健世广志义兴良海山仁波宁贵福生龙元全胜学祥才发成康星光天达安岩中茂进林有坚和彪博诚先敬震振壮会思群豪心邦承乐绍功松善厚庆民友裕河哲江浩亮政谦亨奇固之轮翰朗伯宏言若鸣朋斌梁栋维启克伦翔旭鹏泽晨辰士以家致树炎德行时泰盛雄琛钧冠策腾楠榕风航弘子轩涵梓欣怡雨萱诗琪晓婷雪莹佳慧"
BRANDS = """华为 小米 苹果 三星 荣耀 联想 戴尔 惠普 华硕 索尼 佳能 尼康 大疆 海尔 美的 格力 九阳 苏泊尔 飞利浦 戴森 松下 西门子 老板 方太 科沃斯 石头 添可 追觅 小天鹅 海信 创维 长虹 奥克斯 艾美特
耐克 阿迪达斯 安踏 李宁 特步 鸿星尔克 匹克 回力 斯凯奇 彪马 新百伦 波司登 优衣库 海澜之家 森马 太平鸟 鄂尔多斯 恒源祥 南极人 蕉内 雅戈尔 七匹狼 骆驼 探路者 迪卡侬 兰蔻 雅诗兰黛 欧莱雅 资生堂 自然堂 百雀羚
珀莱雅 完美日记 花西子 薇诺娜 大宝 高露洁 云南白药 舒肤佳 海飞丝 蓝月亮 立白 清风 维达 心相印 帮宝适 花王 好奇 飞鹤 爱他美 贝因美 伊利 蒙牛 光明 三只松鼠 良品铺子 百草味 洽客 康师傅 统一 农夫山泉 茅台 五粮液
雀巢 星巴克 瑞幸 周大福 老凤祥 晨光 得力 乐高 公牛 小熊 蓝盒 米其林 马牌 美孚 皇家 渴望 林氏 宜家 全友 慕思 喜临门 罗莱 水星 富安娜 同仁堂 汤臣倍健 鱼跃 欧姆龙 vivo oppo Nike Puma Sony Dell anker realme""".split()
ATTRIBUTES = """红色 蓝色 绿色 黄色 紫色 粉色 白色 黑色 灰色 米色 咖色 卡其色 藏青色 酒红色 墨绿 天蓝 浅灰 深蓝 奶白 雾霾蓝 玫瑰金 香槟色 军绿 橘色 焦糖色 杏色 透明 银色 金色 纯棉 真丝 羊毛 羊绒 亚麻 牛皮 真皮 帆布 雪纺 牛仔 针织
灯芯绒 法兰绒 珊瑚绒 莫代尔 竹纤维 不锈钢 实木 塑料 玻璃 陶瓷 硅胶 铝合金 橡木 乳胶 长款 短款 加厚 薄款 修身 宽松 高腰 低帮 高帮 无袖 长袖 短袖 圆领 V领 连帽 立领 双人 单人 儿童 男款 女款 中性 大号 迷你 便携 折叠 无线 蓝牙 防水
防晒 静音 变频 智能 电动 手动 充电 磁吸 原味 草莓味 巧克力味 麻辣 香辣 五香 无糖 低脂 无香 保湿 美白 控油 抗皱 敏感肌 复古 简约 北欧 中式 碎花 格子 条纹 纯色 印花 豹纹 刺绣 Pro Max Plus Mini Ultra S24 K70 mate60 A8 T5 X30 旗舰版 青春版 标准版 豪华款 家用 车载
商用 全自动 半自动 滚筒 落地 壁挂 台式 手持 加绒 抓绒 夹棉 一次性 可水洗 速干 透气 抗菌 防滑 情侣款 亲子款 学生款 孕妇 老人 宠物 野生 有机 新鲜 冷冻 真空 散装 独立包装 手工 进口 国产""".split()
MEASURES = "个件条双盒箱袋包瓶罐斤只套张支把台块本册对副根桶片份卷床顶颗粒串打"
DIGITS = "一二两三四五六七八九十"
DAYS = """今天 昨天 前天 明天 后天 大后天 今晚 昨晚 今早 昨天下午 明天上午 周一 周二 周三 周四 周五 周六 周日 上周三 下周五 这周末 周末 月底 月初 下个月 上个月 去年 明年 双十一 双十二 618 国庆 中秋 端午 春节 元旦 五一 情人节 七夕 母亲节 父亲节 儿童节
教师节 圣诞 三天前 两周前 半个月前 一小时前 早上 中午 傍晚 凌晨 年前 年后 过年 开学 夏天 冬天 前几天 上礼拜 8号下午 晚上8点 0点 下午三点""".split()
COLLOQUIAL = re.compile(r"^[\u4e00-\u9fff]{2,4}$")


def load():
    return json.loads((RUN / "lexicon.json").read_text(encoding="utf-8"))


def unseen_products():
    out = set()
    for line in heldout_words():
        if line.strip():
            out |= {s for t, s in marked(line.split(" ", 2)[2]).surfaces() if t == "product"}
    return out


def clean(conversations):
    """Drops the conversations that hold a product of the unseen list, and says how many."""
    banned = unseen_products()
    keep = [c for c in conversations
            if not any(b in t.message.text or (t.reply and b in t.reply.text) for t in c[1] for b in banned)]
    print(f"{len(conversations) - len(keep)} of {len(conversations)} conversations hold an unseen product and are left out")
    return keep


class Surfaces:
    """Draws a surface for an entity type."""

    def __init__(self, rng, lexicon=None):
        self.rng, self.lex = rng, lexicon or load()
        self.chars = self.lex["chars"]

    def number(self, lo, hi):
        return str(self.rng.randint(lo, hi))

    def digits(self, n):
        return "".join(self.rng.choice("0123456789") for _ in range(n))

    def cjk_number(self):
        r = self.rng
        return r.choice([lambda: r.choice(DIGITS), lambda: r.choice("二三四五六七八九") + r.choice("百千万"), lambda: r.choice("一二三四五六七八九") + "百" + r.choice("二三四五六八"),
                         lambda: r.choice("二三四五六七八九") + "十" + r.choice(["", "五", "八"])])()

    def draw(self, kind, old=""):
        r = self.rng
        u = r.random()
        own = self.lex["own"].get(kind, [])
        if kind == "product":
            near = self.lex.get("near", {}).get(old)
            if near and r.random() < 0.45:
                return r.choice(near)
            if u < 0.35:
                return r.choice(own)
            if u < 0.93:
                return r.choice(self.lex["product"])
            return "".join(r.choice(self.chars) for _ in range(r.randint(2, 4)))
        if kind == "brand":
            return r.choice(own) if u < 0.25 else r.choice(BRANDS) if u < 0.8 else "".join(r.choice(self.chars) for _ in range(r.randint(2, 3)))
        if kind == "attribute":
            return r.choice(own) if u < 0.5 else r.choice(ATTRIBUTES)
        if kind == "address":
            return r.choice(own) if u < 0.3 else r.choice(self.lex["address"])
        if kind == "person":
            if u < 0.3:
                return r.choice(own)
            if u < 0.5:
                return r.choice(["小", "老", "阿"]) + r.choice(SURNAMES)
            return r.choice(SURNAMES) + "".join(r.choice(GIVEN) for _ in range(r.randint(1, 2)))
        if kind == "time":
            return r.choice(own) if u < 0.5 else r.choice(DAYS)
        if kind == "phone":
            if u < 0.75:
                return r.choice(["13", "15", "17", "18", "19"]) + self.digits(9)
            return old if u < 0.85 else r.choice(own)
        if kind == "order_id":
            if u < 0.3:
                return r.choice(own)
            return r.choice(["", "", "", "SF", "YT", "JD", "ZTO", "E"]) + r.choice("123456789") + self.digits(r.randint(7, 17))
        if kind == "price":
            if u < 0.4:
                return r.choice(own)
            n = r.choice([self.number(5, 99), self.number(100, 999), self.number(1000, 5999), f"{r.randint(5, 300)}.{r.choice('589')}", self.cjk_number()])
            return n + r.choice(["", "元", "块", "块钱"])
        if kind == "quantity":
            if u < 0.4:
                return r.choice(own)
            return r.choice([r.choice(DIGITS), self.number(1, 20)]) + r.choice(MEASURES)
        if kind == "size":
            if u < 0.5:
                return r.choice(own)
            return r.choice(["S", "M", "L", "XL", "XXL", "XXXL", "均码", "大号", "中号", "小号", f"{r.randint(34, 46)}码", f"{r.randint(34, 46)}", f"{r.randint(150, 190)}",
                             f"{r.choice([50, 100, 250, 500, 750, 1000])}{r.choice(['ml', '毫升', 'g', '克'])}", f"{r.randint(1, 20)}斤", f"{r.choice(['1米2', '1米5', '1米8', '2米'])}",
                             f"{r.choice([64, 128, 256, 512])}G", f"{r.randint(13, 32)}寸", f"{r.randint(5, 60)}厘米"])
        return old


def main():
    from teacher import E5
    random.seed(2)
    torch.set_num_threads(2)
    own = defaultdict(dict)
    for _, turns in clean(read_folder(DATA / "understand", complain=False)):
        for t in turns:
            for kind, s in t.message.surfaces():
                own[kind][s] = own[kind].get(s, 0) + 1
    banned = unseen_products()
    words = []
    for line in (package("jieba") / "dict.txt").read_text(encoding="utf-8").splitlines():
        w, n, tag = line.split(" ")
        if tag in ("n", "nz", "v", "a", "vn", "l", "nr", "ns") and COLLOQUIAL.match(w) and int(n) >= 3 and not any(b in w for b in banned):
            words.append((w, tag))
    nouns = [w for w, tag in words if tag == "n"]
    others = random.sample([w for w, _ in words], 6000)
    positive = [p for p in own["product"] if COLLOQUIAL.match(p)]
    e5 = E5()
    model = e5.model().to(torch.bfloat16)

    def vectors(ws):
        out = torch.empty(len(ws), e5.H)
        enc = [e5.encode(w)[0] for w in ws]
        order = sorted(range(len(ws)), key=lambda i: len(enc[i]))
        with torch.no_grad():
            for k in range(0, len(order), 512):
                part = order[k:k + 512]
                L = max(len(enc[i]) for i in part)
                ids, mask = torch.ones(len(part), L, dtype=torch.long), torch.zeros(len(part), L)
                for r, i in enumerate(part):
                    ids[r, :len(enc[i])] = torch.tensor(enc[i])
                    mask[r, :len(enc[i])] = 1
                h = model(ids, attention_mask=mask).last_hidden_state.float()
                out[part] = F.normalize((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)
        return out

    vp, vo, vn = vectors(positive), vectors(others), vectors(nouns)
    mean, std = vo.mean(0), vo.std(0)
    x = torch.cat([(vp - mean) / std, (vo - mean) / std])
    y = torch.cat([torch.ones(len(vp)), torch.zeros(len(vo))])
    wgt = torch.where(y > 0, len(vo) / len(vp) / 2, 1.0)
    w, b = torch.zeros(e5.H, requires_grad=True), torch.zeros(1, requires_grad=True)
    opt = torch.optim.Adam([w, b], lr=0.02)
    for _ in range(300):
        loss = F.binary_cross_entropy_with_logits(x @ w + b, y, wgt) + 3e-2 * (w * w).sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
    score = ((vn - mean) / std @ w + b).detach()
    order = score.argsort(descending=True)[:7000]
    product = [nouns[i] for i in order]
    # for each product of ours the most like ones, so that a replaced product still suits its sentence
    pool = product[:5000] + positive
    vq = torch.cat([vn[order[:5000]], vp])
    near = {}
    for i, p in enumerate(positive):
        best = ((vq - mean) @ (vp[i] - mean) / ((vq - mean).norm(dim=1) * (vp[i] - mean).norm())).argsort(descending=True)[:40].tolist()
        near[p] = [pool[j] for j in best if pool[j] != p]
    z = zipfile.ZipFile(package("jionlp") / "dictionary" / "china_location.zip")
    path, address = [], []
    for line in z.read("china_location.txt").decode().splitlines():
        depth = len(line) - len(line.lstrip("\t"))
        name = line.strip().split("\t")[0]
        path = path[:depth] + [name]
        if depth <= 3 and random.random() < 0.25:
            start = random.randint(0, depth) if depth else 0
            a = "".join(dict.fromkeys(path[start:]))
            if random.random() < 0.35:
                a += random.choice(["人民路", "中山路", "解放路", "建设路", "学府路", "滨河路", "文化街"]) + f"{random.randint(1, 400)}号"
            if random.random() < 0.3:
                a += f"{random.randint(1, 30)}栋{random.randint(101, 2808)}"
            if random.random() < 0.4 and start == depth:
                a = re.sub(r"[省市区县镇]$", "", a) if len(a) > 2 else a
            address.append(a)
    random.shuffle(address)
    lex = dict(product=product, near=near, address=address[:6000], own={k: list(v) for k, v in own.items()},
               chars=[c for c in (RUN / "student" / "vocab.txt").read_text(encoding="utf-8").split() if len(c) == 1 and "\u4e00" <= c <= "\u9fff"][:5000])
    for k in lex["own"]:
        lex["own"][k] = [s for s in lex["own"][k] if not any(b in s for b in banned)]
    (RUN / "lexicon.json").write_text(json.dumps(lex, ensure_ascii=False), encoding="utf-8")
    print(len(positive), "products known;", [product[i] for i in range(0, 7000, 160)])
    print(lex["address"][:20])


if __name__ == "__main__":
    main()
